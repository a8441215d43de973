"""Does a hospital ever refuse honest weights? Every strategy in every situation that moves weights in its own way.

Three hospitals with 120, 40 and 12 images, so that the smallest one trains for a step where the largest one trains for
many, answer the real server with the default check of weights. Prints how many messages they answered with an error.

    python -m benchmarks.false_refusals
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flwr.app import Message

from benchmarks.local_grid import run_federation
from benchmarks.output import Row, parser, run
from fl_app.errors import FlAppError
from fl_app.messages.records import CONFIG, TRAIN
from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder, read_status
from tests.node.coordinator import SIDE, make_pictures, write_pictures
from tests.options import NO_MINIMUMS, write_simulated_key
from tests.tiny import tiny_run

STRATEGIES = (
    "FedAvg", "FedProx", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad", "FedMedian", "FedTrimmedAvg", "Krum",
)  # fmt: skip
_IMAGES = {"north": 60, "south": 20, "west": 6}  # of each of two classes
_COMPARING = ("FedMedian", "FedTrimmedAvg", "Krum")  # no mean of the nodes' own averages goes with them

Options = dict[str, OptionValue]
Away = Callable[[int, Sequence[Message]], bool]


class _StoppedError(FlAppError):
    """The server ends in the middle of a run."""


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each strategy: refusals in each situation."""
    for strategy in STRATEGIES:
        row: Row = {"strategy": strategy}
        for situation in SITUATIONS:
            with tempfile.TemporaryDirectory() as folder:
                refusals, _ = refusals_in(situation, strategy, Path(folder))
            for reason in refusals:
                print(f"{strategy}, {situation}: {reason}")
            row[situation] = len(refusals)
        yield row


def refusals_in(situation: str, strategy: str, folder: Path) -> tuple[list[str], str]:
    """Run a federation of three hospitals.

    Args:
        situation: one of SITUATIONS.
        strategy: of the tasks.
        folder: for the images, the nodes' states and the run; empty.

    Returns:
        The reasons of all error replies, and the state in which the run ended.
    """
    for seed, (site, number) in enumerate(_IMAGES.items()):
        write_pictures(folder / "images" / site, make_pictures({"a": number, "b": number}, seed))
        write_simulated_key(folder / "state", site)
    hospitals = {
        number: {
            **NO_MINIMUMS, "data-path": str(folder / "images" / site), "site": site, "state-dir": str(folder / "state"),
        }
        for number, site in enumerate(_IMAGES)
    }  # fmt: skip
    refusals: list[str] = []

    def listen(instruction: Message, reply: Message) -> Message:
        if reply.has_error():
            refusals.append(f"{instruction.metadata.message_type}: {reply.error.reason}")
        return reply

    options = SITUATIONS[situation](strategy) | {
        "data.source": "folder", "data.class-names": "a,b,c", "data.num-channels": 1, "data.image-size": SIDE,
        "classification.strategy": strategy, "diffusion.strategy": strategy, "data.limit": 0,
    }  # fmt: skip
    config = tiny_run(folder / "runs", options)
    grid: dict[str, Any] = {"node_options": hospitals, "meddle": listen}
    if situation == "late join":
        grid["is_away"] = _late_or_away
    if situation != "resume":
        run_federation(config, len(hospitals), **grid)
    else:
        _stop_and_resume(folder, options, len(hospitals), listen, grid)
    return refusals, read_status(RunFolder(folder / "runs" / "run")).state


def _stop_and_resume(
    folder: Path, options: Options, num_nodes: int, listen: Callable[[Message, Message], Message], grid: dict[str, Any]
) -> None:
    """Stop a server in round 4; resume from round 2, stop in round 5, resume from round 4."""

    def stopping(number: int) -> Callable[[Message, Message], Message]:
        def answer(instruction: Message, reply: Message) -> Message:
            config = instruction.content.config_records[CONFIG]
            if instruction.metadata.message_type == TRAIN and config["server-round"] == number:
                raise _StoppedError("stopped")
            return listen(instruction, reply)

        return answer

    more: Options = {}
    for number, lost in ((4, "round-0003"), (5, "")):
        config = tiny_run(folder / "runs", options | more)
        with suppress(_StoppedError):
            run_federation(config, num_nodes, **{**grid, "meddle": stopping(number)})
        if lost:
            shutil.rmtree(folder / "runs" / "run" / "classification" / "checkpoints" / lost)
        more = {"resume": str(folder / "runs" / "run")}
    run_federation(tiny_run(folder / "runs", options | more), num_nodes, **grid)


def _late_or_away(number: int, sent: Sequence[Message]) -> bool:
    """South comes in round 3, and west is away in rounds 2 and 3."""
    rounds = [
        int(str(message.content.config_records[CONFIG]["server-round"]))
        for message in sent
        if message.metadata.message_type == TRAIN
    ]
    newest = max(rounds, default=0)
    return (number == 1 and newest < 2) or (number == 2 and 1 <= newest < 3)


def _trained(**more: OptionValue) -> Options:
    """Return options of a classifier of five rounds; underscores stand for hyphens."""
    return {
        "tasks": "classification", "classification.num-rounds": 5,
        **{f"classification.{name.replace('_', '-')}": value for name, value in more.items()},
    }  # fmt: skip


def _averaged(strategy: str) -> Options:
    return {
        "tasks": "diffusion", "diffusion.num-rounds": 4, "diffusion.ema-horizon": 0.5,
        "diffusion.node-ema": strategy not in _COMPARING,
    }  # fmt: skip


SITUATIONS: dict[str, Callable[[str], Options]] = {  # by name, the options of a run by a strategy
    "resume": lambda strategy: _trained(),
    "late join": lambda strategy: _trained() | {"late-joining": True},
    "sampling": lambda strategy: _trained() | {"federation.nodes-per-round": 2},
    "baselines": lambda strategy: _trained(
        baselines=",".join(["local", *(name for name in ("FedAvg", "FedAdagrad") if name != strategy)])
    ),
    "EMA": _averaged,
    "prototype-rounds": lambda strategy: _trained(prototype_rounds="1,3", readings="consistent,piggyback,local"),
}


if __name__ == "__main__":
    run(measure, parser(__doc__).parse_args())
