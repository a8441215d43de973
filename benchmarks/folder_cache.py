"""How long a node takes to have its images for the first message and for the second one, which finds them decoded.

Each message has a process of its own, as Flower gives it one; what is timed is reading alone, without the imports. The
folder is made of random pictures: PNG compresses them badly, and so decodes them slowly.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.output import Row, parser, run

_MESSAGE = """
import sys, time
from fl_app.config import NodeConfig, RunConfig
from fl_app.data.local import load_local
from tests.options import run_config
import torch
torch.set_num_threads(int(sys.argv[4]))
config = run_config({"data.source": "folder", "data.class-names": "a,b", "data.num-channels": 1, "data.image-size": 64})
node = NodeConfig.from_flat({"data-path": sys.argv[1], "site": "north", "state-dir": sys.argv[2],
                             "max-cache-megabytes": int(sys.argv[3])})
start = time.perf_counter()
found = load_local(config, node)
print(time.perf_counter() - start, len(found.train) + len(found.validation) + len(found.test))
"""


def _write(folder: Path, count: int, side: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (side, side), dtype=np.uint8)).save(path)


def _message(folder: Path, state: Path, most_megabytes: int, threads: int) -> float:
    given = [str(folder), str(state), str(most_megabytes), str(threads)]
    told = subprocess.run([sys.executable, "-c", _MESSAGE, *given], capture_output=True, text=True, check=True)
    return float(told.stdout.split()[0])


def _measure(arguments: argparse.Namespace) -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder, state = Path(name) / "data", Path(name) / "state"
        _write(folder, arguments.images, arguments.side)
        without = _message(folder, state, 0, arguments.threads)
        first, second = (_message(folder, state, 4096, arguments.threads) for _ in range(2))
        yield {
            "images": arguments.images,
            "side": arguments.side,
            "threads": arguments.threads,
            "seconds without a cache": without,
            "first message": first,
            "second message": second,
            "first / second": first / second,
        }


if __name__ == "__main__":
    built = parser(__doc__)
    built.add_argument("--images", type=int, default=2000, help="in the folder (default: 2000)")
    built.add_argument("--side", type=int, default=512, help="of an image, in pixels (default: 512)")
    run(_measure, built.parse_args())
