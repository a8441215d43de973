"""Flip one bit of a stopped run's checkpoints, resume it, and count what becomes of it, many times over.

refused: the run does not start, and the reason names the damaged folder. told: it goes on, and its log names the
damaged folder, an older one than that from which it goes on. silent: neither.
"""

import argparse
import logging
import random
import shutil
import tempfile
from pathlib import Path

from flwr.app import Message

from benchmarks.local_grid import run_federation
from benchmarks.output import Row, parser, run
from fl_app.errors import RunFolderError
from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue

_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
_SMALL: dict[str, OptionValue] = {
    "run-name": "run",
    "data.limit": 60,
    "partition.scheme": "iid",
    "diffusion.num-rounds": 4,
    "diffusion.epochs": 1.0,
    "diffusion.block-channels": "8,8",
    "diffusion.mid-attention": False,
    "diffusion.ema-horizon": 0.1,
    "diffusion.strategy": "FedAdam",
    "sampling.num-steps": 2,
    "sampling.images-per-class": 1,
    "gallery-every": 0,
    "checkpoint-every": 1,
}


class _Stopped(Exception):
    """Ends a run on purpose."""


class _Warnings(logging.Handler):
    """Keeps the text of all warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.texts.append(record.getMessage())


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Count the ends of as many resumed runs as are asked for, by damaged file."""
    with tempfile.TemporaryDirectory() as place:
        stopped = Path(place) / "stopped"
        _run_until(stopped, "", 4)
        files = sorted(path.relative_to(stopped) for path in stopped.glob("run/diffusion/checkpoints/*/*"))
        draw = random.Random(arguments.seed)
        ends: dict[str, dict[str, int]] = {}
        for number in range(arguments.tries):
            file = files[number % len(files)]
            end = _try(stopped, Path(place) / "tried", file, draw)
            counts = ends.setdefault("/".join(file.parts[-2:]), dict.fromkeys(("refused", "told", "silent"), 0))
            counts[end] += 1
        total = {end: sum(counts[end] for counts in ends.values()) for end in ("refused", "told", "silent")}
        return [{"file": name, **counts} for name, counts in [*sorted(ends.items()), ("all", total)]]


def _try(stopped: Path, copy: Path, file: Path, draw: random.Random) -> str:
    """Flip one bit of a copy's file and resume the copy up to its first reply; return what became of it."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(stopped, copy)
    content = bytearray((copy / file).read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    (copy / file).write_bytes(content)
    log, warnings = logging.getLogger("fl_app"), _Warnings()
    log.addHandler(warnings)
    try:
        _run_until(copy, str(copy / "run"), 1)
    except RunFolderError as error:
        return "refused" if file.parent.name in str(error) else "silent"
    finally:
        log.removeHandler(warnings)
    return "told" if any(file.parent.name in text for text in warnings.texts) else "silent"


def _run_until(output: Path, resume: str, num_rounds: int) -> None:
    """Start or resume a run of two nodes, and stop it in the round of that number, counted from this start."""
    asked: set[int] = set()

    def stop(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == "train":
            asked.add(int(str(instruction.content.config_records["config"]["server-round"])))
            if len(asked) == num_rounds:
                raise _Stopped
        return reply

    options = default_options(_PYPROJECT) | _SMALL | {"output-dir": str(output), "resume": resume}
    try:
        run_federation(RunConfig.from_flat(options), 2, meddle=stop)
    except _Stopped:
        return
    raise RuntimeError("the run was not stopped")


def main() -> None:
    """Run as a command."""
    arguments = parser(__doc__)
    arguments.add_argument("--tries", type=int, default=500)
    arguments.add_argument("--seed", type=int, default=0)
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
