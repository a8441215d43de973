"""Run a group of the experiment on training, one run after the other, each in a process of its own.

Finished runs are passed over; a run that was stopped starts anew.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from experiments.tuning.plan import GROUPS
from experiments.tuning.setting import Setting
from fl_app.runs.folder import RunFolder, read_status


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tuning", description=__doc__)
    parser.add_argument("group", choices=list(GROUPS))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run folders")
    parser.add_argument("--only", nargs="*", metavar="SETTING", help="names of settings (default: all)")
    parser.add_argument("--seeds", nargs="*", type=int, help="default: the plan's")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out = arguments.out.expanduser().resolve()
    wanted = [s for s in GROUPS[arguments.group] if not arguments.only or s.name in arguments.only]
    pairs = [
        (seed, setting)
        for setting in wanted
        for seed in setting.seeds
        if not arguments.seeds or seed in arguments.seeds
    ]
    if arguments.one:
        _run_one(next(s for s in wanted if s.name == arguments.one), arguments.seeds[0], out)
        return
    failed = [setting.name for seed, setting in sorted(pairs, key=lambda pair: pair[0]) if not _run(setting, seed, out)]
    sys.exit(f"Failed: {', '.join(failed)}" if failed else 0)


def _run(setting: Setting, seed: int, out: Path) -> bool:
    """Run a setting in a process of its own; return whether it ended well."""
    name = f"{setting.name}-seed-{seed}"
    folder = out / name
    if folder.is_dir() and read_status(RunFolder(folder)).state in ("completed", "degraded"):
        return True
    shutil.rmtree(folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    group = next(group for group, settings in GROUPS.items() if setting in settings)
    command = [sys.executable, "-m", "experiments.tuning", group, "--out", str(out)]
    with (out / f"{name}.log").open("w") as log:
        code = subprocess.call([*command, "--one", setting.name, "--seeds", str(seed)], stdout=log, stderr=log)
    print(f"{name}: {_outcome(folder)}, {time.monotonic() - started:.0f} s", flush=True)
    return code == 0


def _outcome(folder: Path) -> str:
    """Return how a run ended and what its held-out images say: the last loss, and accuracies by head."""
    if not folder.is_dir():
        return "no run folder"
    run = RunFolder(folder)
    lines, exchanges = run.read_metrics(), sorted(folder.glob("classification/prototypes/round-*.json"))
    loss = lines[-1].validation_loss if lines else None
    text = "none" if loss is None else f"{read_status(run).state}, last held-out loss {loss:.4f}"
    if exchanges:
        rows = json.loads(exchanges[-1].read_text(encoding="utf-8"))["results"]
        found = [f"{row['head']} {row['figures']['accuracy']:.4f}" for row in rows if row["part"] == "validation"]
        text += f"; held out: {', '.join(found)}"
    return text


def _run_one(setting: Setting, seed: int, out: Path) -> None:
    import torch

    from benchmarks.local_grid import run_federation

    torch.set_num_threads(1)
    run_federation(setting.config(seed, out), setting.num_nodes)


if __name__ == "__main__":
    main()
