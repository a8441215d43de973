"""The same sites, options and seed, once on machines of their own and once simulated: the same bits."""

import json
import subprocess
import sys
from pathlib import Path

from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder
from tests.faults.deployment import ROOT, SITES, Deployment
from tests.faults.images import find_private
from tests.faults.rounds import Run, small_classification

_BOTH: dict[str, OptionValue] = {
    "tasks": "diffusion,classification",
    "diffusion.num-rounds": 2,
    "diffusion.epochs": 1.0,
    "diffusion.batch-size": 8,
    "diffusion.block-channels": "8,8",
    "diffusion.mid-attention": False,
    "diffusion.node-ema": True,
    "sampling.num-steps": 2,
    "sampling.images-per-class": 1,
}


def simulate(federation: Deployment, options: dict[str, OptionValue]) -> Path:
    """Run the same options on the hospitals' folders in a simulation, and return the run folder."""
    name = f"{options['run-name']}-simulated"
    changed = {"run-name": name, "data.directory": str(federation.home / "images"), "partition.scheme": "sites"}
    command = [sys.executable, "-m", "fl_app.cli", "run", "--app", str(ROOT), "--nodes", str(len(SITES))]
    for key, value in {**options, **changed}.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=federation.home, timeout=540)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return federation.runs / name


def models(folder: Path) -> dict[str, bytes]:
    """Return the files of weights that a run exported, by their place in its folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("model/**/*.safetensors"))}


def test_a_deployed_run_ends_with_the_bits_of_the_simulated_one(federation: Deployment) -> None:
    options = {**small_classification(federation, "twin", num_rounds=2), **_BOTH}
    deployed = Run(federation, options)
    assert deployed.wait_for_end().state == "completed"
    ours, theirs = deployed.folder.path, simulate(federation, options)
    assert len(models(ours)) >= 2
    assert find_private(ours, list(federation.folders.values())) == []
    assert models(ours) == models(theirs)
    for task in ("diffusion", "classification"):
        one, other = (RunFolder(folder).last_checkpoint(task) for folder in (ours, theirs))
        assert one is not None and other is not None and one.models.keys() == other.models.keys()
        for name, weights in one.models.items():
            assert all(weights[key].tobytes() == other.models[name][key].tobytes() for key in weights), (task, name)
        losses = [[(line.train_loss, line.validation_loss) for line in RunFolder(folder).read_metrics()]
                  for folder in (ours, theirs)]  # fmt: skip
        assert losses[0] == losses[1]
