"""What generated images add to a classifier whose nodes lack classes, beside cheap controls and the `lda` head.

A diffusion model is trained once for each seed and split; each setting then trains a classifier from the same weights,
in the same order, through the real server and the real nodes, in one process. All are measured on the sites' shares of
the same test images.

    python -m benchmarks.replay --out FOLDER --seeds 0 1 2 --scheme pathological
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from benchmarks.local_grid import run_federation
from benchmarks.models import default_config
from fl_app.files import write_json
from fl_app.messages.replay import DRAW
from fl_app.options.app_files import own_app, read_options
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.runs.results import read_comparison
from fl_app.runs.run_json import read_document, write_document

SETTINGS: dict[str, dict[str, OptionValue]] = {
    "none": {},
    "generated": {"classification.replay": "generated"},
    "oversample": {"classification.replay": "oversample"},
    "class-weights": {"classification.replay": "class-weights"},
    "logit-adjusted": {"classification.replay": "logit-adjusted"},
    "label-smoothing": {"classification.label-smoothing": 0.1},
}
SHIPPED = "shipped"
HEADS = ("linear", "lda", SHIPPED)


def config_of(
    out: Path, name: str, seed: int, scheme: Sequence[str], recipe: str, sets: dict[str, OptionValue]
) -> RunConfig:
    """Return the options of a run; `scheme`: a name and, for dirichlet, alpha."""
    own = read_options(own_app() / "recipes" / f"{recipe}.toml", "recipe")
    split: dict[str, OptionValue] = {"partition.scheme": scheme[0]}
    split |= {"partition.alpha": float(scheme[1])} if len(scheme) > 1 else {"partition.classes-per-node": 1}
    return default_config(
        {
            **own,
            **split,
            "tasks": "diffusion,classification",
            "seed": seed,
            "output-dir": str(out),
            "run-name": name,
            "gallery-every": 0,
            "quality.num-images": 0,
            "classification.num-rounds": 20,
            **sets,
        }
    )


def train_diffusion(config: RunConfig, num_nodes: int) -> float:
    """Train the diffusion model, and a classifier of one round that is thrown away; return seconds of its rounds.

    A run that is there already is left alone.
    """
    folder = Path(config.output_dir) / config.run_name
    if not (folder / "diffusion" / "model").is_dir():
        run_federation(RunConfig.from_flat({**config.to_flat(), "classification.num-rounds": 1}), num_nodes)
    return _total(folder, "diffusion", "seconds")


def train_classifier(config: RunConfig, base: Path, num_nodes: int) -> dict[str, float]:
    """Train a classifier in a copy of a run whose diffusion model is finished.

    Returns:
        Accuracy by head, `shipped` for the one that the run chose; seconds; megabytes from and to all nodes, of the
        classifier and of the diffusion model.
    """
    folder = Path(config.output_dir) / config.run_name
    if not (folder / "classification" / "comparison.csv").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, folder, ignore=shutil.ignore_patterns("classification", "nodes", ".lock"))
        document = read_document(folder)
        write_document(
            folder, document.__class__(**{**vars(document), "run_name": config.run_name, "options": config.to_flat()})
        )
        status = json.loads((folder / "status.json").read_text())
        write_json(folder / "status.json", {**status, "state": "failed"})
        lines = [
            line
            for line in (folder / "metrics.jsonl").read_text().splitlines()
            if json.loads(line)["task"] == "diffusion"
        ]
        (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
        started = time.monotonic()
        run_federation(RunConfig.from_flat({**config.to_flat(), "resume": str(folder)}), num_nodes)
        write_json(folder / "seconds.json", time.monotonic() - started)
    rows = [row for row in read_comparison(folder) if row["n"].isdigit()]
    found = {row["head"]: float(row["accuracy"]) for row in rows}
    found[SHIPPED] = next(float(row["accuracy"]) for row in rows if row["approach"].endswith("(ships)"))
    found["seconds"] = float(json.loads((folder / "seconds.json").read_text()))
    for task in ("classification", "diffusion"):
        found[f"MB, {task}"] = (_total(folder, task, "bytes-down") + _total(folder, task, "bytes-up")) / 1e6
    found["MB, classification"] += sum(read_document(folder).answer_bytes.get(DRAW, (0, 0))) / 1e6
    return found


def _total(folder: Path, task: str, name: str) -> float:
    """Return a figure of all rounds of a task."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return float(sum(line[name] for line in lines if line["task"] == task))


def interval(differences: Sequence[float]) -> str:
    """Return mean and 95 % interval (Student) of paired differences, in points."""
    mean = 100 * float(np.mean(differences))
    if len(differences) < 2:
        return f"{mean:+.1f}"
    half = 100 * float(stdtrit(len(differences) - 1, 0.975) * np.std(differences, ddof=1) / np.sqrt(len(differences)))
    return f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"


def main() -> None:
    """Train, and print a row for each setting and head."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; finished ones are not run again"
    )
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--scheme", nargs="+", default=["pathological"], help="pathological, or dirichlet and alpha")
    arguments.add_argument("--nodes", type=int, default=10)
    arguments.add_argument("--recipe", default="fashion-mnist")
    arguments.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    arguments.add_argument("--set", nargs="*", default=[], help="key=value, JSON")
    chosen = arguments.parse_args()
    sets = {key: json.loads(value) for key, _, value in (one.partition("=") for one in chosen.set)}
    split = "-".join(chosen.scheme)
    found: dict[str, list[dict[str, float]]] = {setting: [] for setting in chosen.settings}
    for seed in chosen.seeds:
        base = config_of(chosen.out, f"{split}-{seed}-diffusion", seed, chosen.scheme, chosen.recipe, sets)
        print(f"seed {seed}: diffusion {train_diffusion(base, chosen.nodes):.0f} s", flush=True)
        for setting in chosen.settings:
            own = {**sets, **SETTINGS[setting]}
            config = config_of(chosen.out, f"{split}-{seed}-{setting}", seed, chosen.scheme, chosen.recipe, own)
            found[setting].append(train_classifier(config, chosen.out / base.run_name, chosen.nodes))
            print(f"seed {seed}, {setting}: {found[setting][-1]}", flush=True)
            write_json(chosen.out / f"{split}.json", {"seeds": chosen.seeds, "found": found})
    print("| setting | head | accuracy | less none, points |\n|---|---|---|---|")
    for setting, runs in found.items():
        for head in HEADS:
            values = [one[head] for one in runs]
            plain = [one[head] for one in found.get("none", runs)]
            less = interval([value - other for value, other in zip(values, plain, strict=True)])
            print(f"| {setting} | {head} | {np.mean(values):.3f} | {less} |")


if __name__ == "__main__":
    main()
