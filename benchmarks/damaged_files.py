"""What becomes of damaged files: how many are read, how many are one unreadable file, and whether any does more.

Files: one of each kind that is read, seeded damage to them, and the DICOM files of pydicom's own package as they are.
Three columns are to be 0: `escaped` counts files that raised anything but the one error, `ended` those whose decoder
crashed, took more than 1 GiB or too long (each still is one unreadable file), `false` images that are not what the
bytes say. `judged` are images that can be compared: a PNG with the undamaged image, an uncompressed DICOM file with
what pydicom's own functions show of the same damaged bytes, to one grey level of 255.
"""

import argparse
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.output import Row, parser, run
from fl_app.data.decoders import read_file
from fl_app.data.decoding import decode
from fl_app.data.unreadable import UnreadableImageError
from fl_app.data.worker import Request
from tests.data.damage import all_damages, difference_from_pydicom, installed, write_good

_UNCOMPRESSED = ("plain.dcm", "frames.dcm", "colour.dcm", "MR_small_bigendian.dcm")


def _count(name: str, paths: Sequence[Path], whole: dict[str, NDArray[np.uint8]]) -> Row:
    counts: Counter[str] = Counter(dict.fromkeys(("read", "unreadable", "judged", "escaped", "ended", "false"), 0))
    start, slowest = time.perf_counter(), 0.0
    for path in paths:
        began = time.perf_counter()
        try:
            found = read_file(Request(path)).pixels
        except UnreadableImageError as error:
            counts["unreadable"] += 1
            counts["ended"] += any(words in str(error) for words in ("crashed", "decoding it takes more"))
            continue
        except BaseException as error:
            counts["escaped"] += 1
            print(f"{path.name}: {type(error).__name__}")
            continue
        finally:
            slowest = max(slowest, time.perf_counter() - began)
        counts["read"] += 1
        kind = path.name.partition("-")[2]
        difference = None
        if kind.endswith(".png"):
            difference = 0 if np.array_equal(whole[kind], found) else 255
        elif not whole or kind in _UNCOMPRESSED:
            difference = difference_from_pydicom(path, found)
        counts["judged"] += difference is not None
        if (difference or 0) > 1:
            counts["false"] += 1
            print(f"{path.name}: {difference} grey levels")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    times = {"seconds": time.perf_counter() - start, "slowest": slowest, "MiB of a decoder": memory}
    return {"files": name, "number": len(paths), **counts, **times}


def _measure(arguments: argparse.Namespace) -> Iterable[Row]:
    yield _count("of pydicom", installed(), {})
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "good").mkdir()
        good = write_good(Path(name) / "good")
        whole = {path.name: decode(path).pixels for path in good}
        for seed in range(arguments.seeds):
            damaged = all_damages(good, Path(name) / str(seed), arguments.copies, seed)
            yield _count(f"damaged, seed {seed}", damaged, whole)


if __name__ == "__main__":
    built = parser(__doc__)
    built.add_argument("--copies", type=int, default=100, help="of each of the good files (default: 100)")
    built.add_argument("--seeds", type=int, default=2, help="how often, with other damage (default: 2)")
    run(_measure, built.parse_args())
