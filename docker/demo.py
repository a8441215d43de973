"""Run a recipe on the federation that `connected.sh` names, and say what came out: `demo.py RUNS RECIPE`."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

APP = Path(__file__).resolve().parents[1]


def write_run_config(recipe: Path, runs: Path, name: str, target: Path) -> None:
    """Write a recipe's options, and where the run folder is made."""
    place = f'output-dir = "{runs}"\nrun-name = "{name}"\nrecipe = "{recipe.stem}"\n'
    target.write_text(place + recipe.read_text(encoding="utf-8"), encoding="utf-8")


def describe(folder: Path) -> tuple[str, bool]:
    """Return how a run ended, in words, and whether something was learned."""
    try:
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except OSError:
        return "The run failed before it had a folder. See: docker compose logs superlink superlink-executor", False
    state, reason = status["state"], status.get("reason")
    return f"outcome: {state}" + (f", {reason}" if reason else ""), state in ("completed", "degraded")


def main() -> None:
    """Exit with 0 if the run completed, else with 1: `flwr run --stream` itself ends with 0 either way."""
    runs, recipe = Path(sys.argv[1]), Path(sys.argv[2])
    name = f"{recipe.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    with tempfile.TemporaryDirectory() as folder:
        options = Path(folder) / "run.toml"
        write_run_config(recipe, runs, name, options)
        command = ["flwr", "run", str(APP), "federation", "--stream", "--run-config", str(options)]
        failed = subprocess.run(command, check=False).returncode
    outcome, has_learned = describe(runs / name)
    print(outcome)
    print(f"run folder: {name}")
    sys.exit(0 if has_learned and not failed else 1)


if __name__ == "__main__":
    main()
