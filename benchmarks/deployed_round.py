"""What a round costs beside training in a federation of real processes on loopback: TLS, node keys, three hospitals.

A round lasts from its start to the start of the next one. Outside training is what is left of it without the training
of the slowest hospital. The hospitals share this machine's cores, so that they start, train and send more slowly than
on machines of their own: `--hospitals 1` shows what that does. Parts are those of the hospital whose answer was sent
last, medians over the rounds; the first round, in which nodes are asked who they are, does not count.
"""

import argparse
import itertools
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.data.images import DatasetInfo
from fl_app.options.sections import OptionValue
from fl_app.runs.documents import RoundLine
from fl_app.tasks import build_task
from tests.faults.deployment import SITES, Deployment, deployed
from tests.faults.images import CLASSES
from tests.faults.rounds import Run

_LINES = {
    "received": r"Received successfully",
    "began": r"The server asks: train",
    "trained": r"trained for ([\d.]+) s",
    "sending": r"Sending: train message",
    "sent": r"Sent successfully",
}
_POLL_SECONDS = 0.02

Times = dict[str, float]


class LogWatcher(threading.Thread):
    """Notes when a hospital's log said what: a list of times for each round.

    Attributes:
        rounds: by name of `_LINES`, in seconds since the epoch, and `training` in seconds.
    """

    def __init__(self, federation: Deployment, site: str) -> None:
        super().__init__(daemon=True)
        self.rounds: list[Times] = []
        self.num_messages = 0
        self._read: Callable[[], str] = lambda: federation.log(site)
        self._ended = threading.Event()

    def run(self) -> None:
        """Read the log again and again until `stop`."""
        seen = 0
        while not self._ended.wait(_POLL_SECONDS):
            lines = self._read().split("\n")[:-1]
            now = time.time()
            for line in lines[seen:]:
                self._note(line, now)
            seen = len(lines)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()

    def _note(self, line: str, now: float) -> None:
        if "Receiving: train message" in line:
            self.rounds.append({})
            self.num_messages += 1
        for name, pattern in _LINES.items():
            found = re.search(pattern, line)
            if found and self.rounds and name not in self.rounds[-1]:
                self.rounds[-1][name] = now
                if name == "trained":
                    self.rounds[-1]["training"] = float(found[1])


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Start the federation, run it, take it down."""
    options = _options(arguments)
    sites = SITES[: arguments.hospitals]
    with tempfile.TemporaryDirectory(prefix="fl-app-round-") as home, deployed(Path(home), sites) as federation:
        options |= {"output-dir": str(federation.runs), "federation.round-deadline-seconds": 3600.0}
        watchers = {site: LogWatcher(federation, site) for site in sites}
        for watcher in watchers.values():
            watcher.start()
        federation.deadline_seconds = 3600.0
        finished = Run(federation, options)
        status = finished.wait_for_end()
        for watcher in watchers.values():
            watcher.stop()
        lines = finished.folder.read_metrics()
    if status.state != "completed":
        raise SystemExit(f"The run is {status.state}: {status.reason}")
    found = [
        _parts(one, after, [watcher.rounds[number] for watcher in watchers.values()])
        for number, (one, after) in enumerate(itertools.pairwise(lines))
        if number > 0
    ]
    row: Row = {"hospitals": len(sites), "M weights": _count_weights(options) / 1e6, "rounds": len(found)}
    row |= {name: statistics.median(parts[name] for parts in found) for name in found[0]}
    messages = [watcher.num_messages / len(lines) for watcher in watchers.values()]
    return [row | {"messages a round": max(messages)}]


def _parts(line: RoundLine, after: RoundLine, hospitals: list[Times]) -> Times:
    """Split a round up into seconds."""
    assert line.started is not None and line.ended is not None and after.started is not None
    whole = after.started - line.started
    training = max(times["training"] for times in hospitals)
    last = max(hospitals, key=lambda times: times["sent"])
    return {
        "round s": whole,
        "outside training s": whole - training,
        "to the hospital s": last["received"] - line.started,
        "process, images s": last["began"] - last["received"],
        "held-out loss s": last["trained"] - last["training"] - last["began"],
        "answer s": last["sent"] - last["trained"],
        "average s": line.ended - last["sent"],
        "checkpoint s": after.started - line.ended,
    }


def _options(arguments: argparse.Namespace) -> dict[str, OptionValue]:
    return {
        "tasks": "diffusion",
        "run-name": "round",
        "gallery-every": 0,
        "data.source": "folder",
        "data.class-names": ",".join(CLASSES),
        "data.num-channels": 1,
        "data.image-size": 8,
        "diffusion.block-channels": arguments.block_channels,
        "diffusion.layers-per-block": 1,
        "diffusion.num-rounds": arguments.rounds,
        "diffusion.epochs": 1.0,
        "sampling.num-steps": 1,
        "sampling.images-per-class": 1,
        "federation.min-nodes": arguments.hospitals,
        "federation.min-replies": arguments.hospitals,
    }


def _count_weights(options: dict[str, OptionValue]) -> int:
    model = build_task("diffusion", default_config(options), DatasetInfo(CLASSES, 1, 8)).build_model()
    return sum(value.numel() for value in model.state_dict().values())


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=6, help="federated rounds (default: 6)")
    arguments.add_argument(
        "--block-channels", default="128,256,256,256", help="of the U-Net (default: 23.5 million weights)"
    )
    arguments.add_argument("--hospitals", type=int, default=3, choices=(1, 2, 3), help="how many (default: 3)")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
