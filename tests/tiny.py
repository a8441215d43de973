"""Options so small that a federation takes a second."""

import json
from pathlib import Path

from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from tests.options import run_config


def tiny_run(output_dir: Path, overrides: dict[str, OptionValue] | None = None) -> RunConfig:
    """Return a run of two rounds on 60 digits with a U-Net of a few thousand weights."""
    return run_config(
        {
            "output-dir": str(output_dir),
            "run-name": "run",
            "data.limit": 60,
            "federation.min-replies": 1,  # two nodes, of which many tests spoil one
            "federation.wait-seconds": 0.2,  # all nodes that there will be are there
            "data.validation-share": 0.2,
            "partition.scheme": "iid",
            "diffusion.num-rounds": 2,
            "diffusion.epochs": 1,
            "diffusion.block-channels": "8,8",
            "diffusion.mid-attention": False,
            "diffusion.ema-horizon": 0.1,
            "sampling.num-steps": 2,
            "sampling.images-per-class": 1,
            "classification.num-rounds": 2,
            "classification.embedding-size": 8,
            "quality.num-images": 0,
            "quality.curve": "",
            "gallery-every": 0,
            "audit.membership": False,
            "audit.copies-images": 0,
            "checkpoint-every": 1,
            **(overrides or {}),
        }
    )


def settings_of(config: RunConfig) -> list[str]:
    """Return the arguments that give `fl-app run` these options, and patience with nodes that are processes."""
    options = {**config.to_flat(), "federation.wait-seconds": 600.0}
    return [word for name, value in options.items() for word in ("--set", f"{name}={json.dumps(value)}")]
