"""What share of a run's processor time goes into checks: those of the server, and the guards of the nodes.

Three hospitals of 50 images (the handwritten digits of scikit-learn at 32 pixels) train a diffusion model of 23.5
million weights for a few rounds of one epoch, through the real server and the real nodes in one process, on the CPU.
Each check's processor time is added up in that very run. A hospital with more images trains longer, and checks as long.
"""

import argparse
import importlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.local_grid import run_federation
from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.errors import FederationError
from fl_app.options.sections import OptionValue

_SITES = ("east", "north", "south")
_IMAGES = 50
_SERVER = (
    "strategies.admission.Admission.check",
    "strategies.streaming.check_measured",
    "strategies.folding.ExactMean.fits",
    "strategies.folding.WaitingReplies.put",
    "strategies.folding.load_file",  # of replies that waited
)
_NODE = (
    "node.answering.check_study",
    "node.answering.count_message",
    "node.answering.contents_of",
    "node.answering.append",
    "node.images.find_key",
    "node.images.settle",
    "node.client.check_weights",
    "node.history.History.note_update",
)


class Clock:
    """Adds up the processor time within functions; the inner one of two nested functions does not count twice.

    Attributes:
        seconds: by function.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._is_running = False

    @contextmanager
    def watch(self, name: str) -> Iterator[None]:
        """Count the time that `fl_app.<name>` takes within the block."""
        owner_name, _, attribute = f"fl_app.{name}".rpartition(".")
        owner = _find(owner_name)
        original: Callable[..., Any] = getattr(owner, attribute)
        self.seconds[name] = 0.0

        def timed(*words: Any, **named: Any) -> Any:
            if self._is_running:
                return original(*words, **named)
            self._is_running, began = True, time.process_time()
            try:
                return original(*words, **named)
            finally:
                self.seconds[name] += time.process_time() - began
                self._is_running = False

        with patch.object(owner, attribute, timed):
            yield


def _find(name: str) -> Any:
    """Return a module, or a class in one."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each check, and one for all of them."""
    logging.disable(logging.CRITICAL)
    clock = Clock()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        hospitals = dict(enumerate(_write_hospitals(folder)))
        for name in (*_SERVER, *_NODE):
            stack.enter_context(clock.watch(name))
        began = time.process_time()
        with suppress(FederationError):  # two rounds may teach a model nothing
            run_federation(default_config(_options(folder, arguments)), len(_SITES), node_options=hospitals)
        total = time.process_time() - began
    for name, seconds in clock.seconds.items():
        yield {"check": name, "seconds": seconds, "share": seconds / total}
    checks = sum(clock.seconds.values())
    yield {"check": "all of them", "seconds": checks, "share": checks / total}
    yield {"check": "the run", "seconds": total, "share": 1.0}


def _write_hospitals(folder: Path) -> Iterator[dict[str, OptionValue]]:
    """Write each hospital's images, and yield its options."""
    images = (load_digits().images * 15).astype(np.uint8)
    for number, site in enumerate(_SITES):
        for i in range(_IMAGES):
            path = folder / site / str(i % 2) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number * _IMAGES + i]).resize((32, 32)).save(path)
        yield {"data-path": str(folder / site), "site": site, "state-dir": str(folder / f"state-{site}")}


def _options(folder: Path, arguments: argparse.Namespace) -> dict[str, OptionValue]:
    return {
        "tasks": "diffusion",
        "output-dir": str(folder),
        "run-name": "run",
        "checkpoint-every": arguments.rounds,
        "gallery-every": 0,
        "data.source": "folder",
        "data.class-names": "0,1",
        "data.image-size": 32,
        "data.num-channels": 1,
        "diffusion.num-rounds": arguments.rounds,
        "diffusion.epochs": 1.0,
        "diffusion.block-channels": arguments.block_channels,
        "diffusion.layers-per-block": 1,
    }


if __name__ == "__main__":
    own = parser(__doc__)
    own.add_argument("--rounds", type=int, default=2, help="rounds of one epoch (default: 2)")
    own.add_argument("--block-channels", default="128,256,256,256", help="of the U-Net (default: 23.5 million weights)")
    run(measure, own.parse_args())
