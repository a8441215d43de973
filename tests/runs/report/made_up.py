"""A run folder with everything that a report shows, made up: no federation, no training."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch

from fl_app.diffusion.pictures import gallery_svg
from fl_app.files import to_json, write_json, write_text
from fl_app.options.sections import OptionValue
from fl_app.quality.figure import FRECHET, LABELS, Figure
from fl_app.runs.audit import MARK, QUARANTINED
from fl_app.runs.documents import RoundLine, RunStatus, SiteCounts
from fl_app.runs.quality import QualityDocument, write_quality
from fl_app.runs.run_json import RunDocument, write_document
from fl_app.strategies.node_outcome import NodeOutcome

TWO = ("malignant", "normal, benign")
SITES = ("north", "south")


def make_run(folder: Path, names: Sequence[str] = TWO, sites: Sequence[str] = SITES, state: str = "degraded") -> Path:
    """Write the folder of a run of both tasks that one site missed a round of, and return it."""
    folder.mkdir(parents=True)
    k = len(names)
    counts = {site: {"train": [9 + i] * k, "validation": [2] * k, "test": [5] * k} for i, site in enumerate(sites)}
    options: dict[str, OptionValue] = {"tasks": "diffusion,classification", "data.source": "folder", "seed": 7}
    document = RunDocument("run", options, started="2026-01-01T10:00:00+0000", nodes=counts, class_names=tuple(names))
    write_document(folder, document)
    reason = "1 rounds failed; south once late (first: no answer before the deadline)" if state == "degraded" else None
    done = {site: SiteCounts(contributed=4) for site in sites}
    done[sites[-1]] = SiteCounts(contributed=3, late=1, reasons=("round 2: no answer before the deadline",))
    status = RunStatus(state=state, reason=reason, nodes=done)  # type: ignore[arg-type]
    write_json(folder / "status.json", to_json(status))
    lines = [_line(task, number, sites) for task in ("diffusion", "classification") for number in (1, 2, 3)]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(to_json(line)) + "\n" for line in lines))
    write_json(folder / "classification" / "prototypes" / "round-0003.json", exchange(names, sites))
    _write_comparison(folder / "classification" / "comparison.csv", 10 * k)
    generator = torch.Generator().manual_seed(0)
    for name in ("round-0001", "final"):
        block = torch.rand(k, 4, 1, 8, 8, generator=generator) * 2 - 1
        path = folder / "diffusion" / "samples" / f"{name}.svg"
        write_text(path, gallery_svg({"raw (used)": block, "ema": block}, names))
    write_quality(folder, _quality(names))
    for task in ("diffusion", "classification"):
        (folder / task / "model").mkdir(parents=True)
    return folder


def put_aside(run: Path, reason: str) -> None:
    """Quarantine the diffusion model of a run."""
    model = run / "diffusion" / "model"
    write_json(model / MARK, {"reason": reason})
    model.rename(model.with_name(QUARANTINED))


def write_audit(
    run: Path, names: Sequence[str] = ("loss",), left_out: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write an audit of a run that found too much, by each of these scores, without the sites that are left out."""
    counts = {f"{name}/{part}": found for name in names for part, found in (("train", [3, 1]), ("validation", [1, 3]))}
    score = {"auc": 0.71, "interval": [0.68, 0.74], "control-auc": None}
    membership = {
        "verdict": "exceeded",
        "reason": "AUC 0.71 <b>",
        "scores": dict.fromkeys(names, score),
        "num-train": 40,
    }
    audit = {"membership": membership, "max-auc": 0.65, "is-quarantined": True, "left-out": dict(left_out)}
    write_json(run / "diffusion" / "audit.json", {**audit, "histograms": {"edges": [0.0, 0.5, 1.0], **counts}})


def exchange(names: Sequence[str], sites: Sequence[str], part_sizes: int = 5) -> dict[str, object]:
    """Return the document of an exchange whose head is right for all images but one of each class."""
    k, n = len(names), part_sizes * len(sites)
    right = (n - 1) / n if n else None
    figures = {
        "n": n * k,
        "support": [n] * k,
        "accuracy": right,
        "balanced-accuracy": right,
        "auc": None,
        "macro-f1": right,
    }
    interval = [max(0.0, (right or 0.0) - 0.2), 1.0] if n else None
    around = {"accuracy": interval, "balanced-accuracy": interval, "auc": None, "macro-f1": interval}
    rows = [
        {"reading": reading, "head": head, "part": part, "figures": figures, "intervals": around}
        for reading, head in (("global", "linear"), ("consistent", "lda"))
        for part in ("validation", "test")
    ]
    confusion = [[n - 1 if i == j else int(j == (i + 1) % k) for j in range(k)] for i in range(k)] if n else None
    return {
        "task": "classification",
        "round": 3,
        "contributed": list(sites),
        "left-out": {},
        "withheld": {},
        "images": 20,
        "bytes": {"moments-down": 1000, "moments-up": 2000, "heads-down": 10, "heads-up": 20},
        "not-defined": {"consistent/fedcof": "it needs three sites"},
        "test-set": "common",
        "results": rows,
        "sites": dict.fromkeys(sites, rows),
        "shipped": {
            "reading": "consistent",
            "head": "lda",
            "accuracy": right,
            "linear-accuracy": right,
            "choose-by": "accuracy",
            "differences": {},
            "why": "it is better",
        },
        "temperatures": {},
        "abstain-distance": None,
        "abstain-picture-distance": None,
        "confusion": confusion,
    }


def _line(task: str, number: int, sites: Sequence[str]) -> RoundLine:
    is_late = number == 2 and task == "diffusion"
    late = NodeOutcome("late", "no answer before the deadline")
    nodes = {site: late if is_late and site == sites[-1] else NodeOutcome("contributed", images=10) for site in sites}
    figures = (
        {"accuracy": 0.5 + 0.1 * number, "brier": 0.9 / number}
        if task == "classification"
        else {"loss-band-0": 0.5 / number}
    )
    return RoundLine(
        task=task,
        round=number,
        num_rounds=3,
        outcome="failed" if is_late else "ok",
        train_loss=None if is_late else 1.0 / number,
        validated_round=number - 1,
        validation_loss=1.5 / number,
        figures={**figures},
        drawn={"raw": 9.0 / number} if task == "diffusion" and not is_late else {},
        seconds=2.0 * number,
        bytes_down=2_000_000,
        bytes_up=1_000_000,
        asked=list(sites),
        nodes=nodes,
    )


def _write_comparison(path: Path, n: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"reading": "consistent", "head": "lda", "images": "test", "n": n, "accuracy": 0.8, "accuracy-low": 0.7,
           "accuracy-high": 0.9, "balanced-accuracy": 0.8, "auc": "not defined", "macro-f1": 0.8}  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["approach", *row])
        writer.writeheader()
        writer.writerows([{"approach": "each node alone", **row}, {"approach": "FedAvg + prototypes (ships)", **row}])


def _quality(names: Sequence[str]) -> QualityDocument:
    figures = [
        Figure(FRECHET, "pixels", None, 1.08, floor=0.69, num_real=20, num_generated=40, num_sites=2, rests_on="south"),
        *(
            Figure(FRECHET, "pixels", name, 2.0, floor=1.5, num_real=10, num_generated=20, num_sites=2)
            for name in names
        ),
        Figure("trained-on-synthetic", "", None, 0.93, interval=(0.9, 0.95), num_real=20, num_sites=2),
        Figure("trained-on-real", "", None, None, reason="a site has one class only"),
        Figure(LABELS, "", None, 0.95, interval=(0.9, 0.97), num_generated=40),
    ]
    return QualityDocument(3, 1, 40, dict.fromkeys(names, 20), "ddim", 12, 1.0, 5, tuple(figures))
