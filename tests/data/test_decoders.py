"""Files decoded in processes of their own: whatever one file does is one unreadable file."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import RLELossless

from fl_app.data import decoders
from fl_app.data.decoders import read_file, read_files
from fl_app.data.decoding import Picture, decode
from fl_app.data.folder import read_parts
from fl_app.data.images import DatasetInfo
from fl_app.data.unreadable import UnreadableImageError
from fl_app.data.worker import Request
from fl_app.errors import DataError
from tests.data.conftest import write_images
from tests.data.dicoms import write_dicom


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def _read_there(path: Path, num_channels: int) -> Picture:
    return read_file(Request(path, num_channels, wants_own=True))


def test_a_file_is_what_it_is_in_this_process(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_dicom(tmp_path / "b.dcm", np.arange(24, dtype=np.uint16).reshape(2, 3, 4), WindowWidth=0, WindowCenter=1)
    for name, channels in (("a.png", 0), ("a.png", 1), ("b.dcm", 1), ("b.dcm", 3)):
        here, there = (read(tmp_path / name, channels) for read in (decode, _read_there))
        assert np.array_equal(here.pixels, there.pixels) and np.array_equal(here.own, there.own)
        assert (here.header, here.is_window_ignored) == (there.header, there.is_window_ignored)
        assert read_file(Request(tmp_path / name, only_header=True)).header == here.header


def test_a_name_that_is_no_text_is_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff a\n.png"))
    Image.new("L", (3, 2)).save(path)
    assert read_file(Request(path)).pixels.shape == (1, 1, 2, 3)


@pytest.mark.usefixtures("threads")
def test_many_files_come_in_their_order_with_the_unreadable_ones_in_their_places(tmp_path: Path) -> None:
    folder = write_images(tmp_path, {"a": 60}) / "a"
    (folder / "patient-7.png").write_bytes(b"x")
    paths = [folder / f"patient-{number}.png" for number in range(60)]
    found = list(read_files([Request(path) for path in paths]))
    for number, (path, one) in enumerate(zip(paths, found, strict=True)):
        assert isinstance(one, UnreadableImageError if number == 7 else Picture)
        assert isinstance(one, UnreadableImageError) or np.array_equal(one.pixels, decode(path).pixels)


def test_the_largest_picture_in_colour_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (10_000, 5_000), (1, 2, 3)).save(tmp_path / "a.png", compress_level=1)
    found = read_file(Request(tmp_path / "a.png")).pixels
    assert found.shape == (1, 3, 5_000, 10_000) and found[0, :, -1, -1].tolist() == [1, 2, 3]


def write_rle(path: Path, rows: int, columns: int) -> Path:
    """Write a small compressed file that says it is larger than it is."""
    write_dicom(path, np.zeros((32, 32), dtype=np.uint16), RLELossless)
    file = dcmread(path)
    file.Rows, file.Columns = rows, columns
    file.save_as(path)
    return path


def test_a_huge_rle_file_is_refused_by_its_header(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="65535 x 65535 pixels, more than 50 million"):
        read_file(Request(write_rle(tmp_path / "a.dcm", 65_535, 65_535)))


def test_a_panic_and_an_abort_cost_one_file_each(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 10})
    write_rle(tmp_path / "a" / "panics.dcm", 16, 16)
    write_rle(tmp_path / "a" / "panics-too.dcm", 64, 64)
    found = read_parts(tmp_path, DatasetInfo(("a",), 1, 6), ["train"], max_unreadable_share=0.2)
    assert (len(found.parts["train"]), found.num_unreadable) == (10, 2)


def bomb(path: Path, side: int) -> Path:
    """Write a JPEG 2000 file whose stream says that it is far larger than the DICOM header says."""
    found = get_testdata_file("MR_small_jp2klossless.dcm", download=False)
    assert isinstance(found, str)
    content = bytearray(Path(found).read_bytes())
    at = content.index(b"\xff\x4f\xff\x51") + 8  # SIZ: width, height, two offsets, width and height of a tile
    for offset in (0, 4, 16, 20):
        content[at + offset : at + offset + 4] = side.to_bytes(4, "big")
    path.write_bytes(content)
    return path


def test_a_stream_that_unpacks_to_gigabytes_is_one_unreadable_file(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UnreadableImageError, match="are 40000 x 40000 pixels, and its header says 64 x 64"):
        read_file(Request(bomb(tmp_path / "a.dcm", 40_000)))
    assert time.monotonic() - start < 60
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 * 2**20  # KiB


def test_the_process_that_decodes_starts_without_torch() -> None:
    command = "import sys, fl_app.data.worker; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)


class Sick(decoders._Worker):
    """A process that dies, or hangs, of the next file."""

    number = signal.SIGSEGV

    def ask(self, request: Request) -> Picture | DataError:
        os.kill(self._process.pid, self.number)
        return super().ask(request)


class Stopped(Sick):
    number = signal.SIGSTOP


@pytest.mark.parametrize(
    ("kind", "words"), [(Sick, "its decoder crashed"), (Stopped, "decoding it takes more than 1 s")]
)
def test_a_process_that_dies_or_hangs_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[decoders._Worker], words: str
) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    monkeypatch.setattr(decoders, "_PATIENCE", 0.1)
    processes = decoders._Decoders()
    with monkeypatch.context() as changed:
        changed.setattr(decoders, "_Worker", kind)
        (found,) = processes.read([Request(tmp_path / "a.png")])
    assert isinstance(found, UnreadableImageError) and words in str(found)
    (found,) = processes.read([Request(tmp_path / "a.png")])
    assert isinstance(found, Picture)
    processes.close()


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = decoders._Worker()
    os.kill(worker._process.pid, signal.SIGXCPU)  # as the system does where the time is spent
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    found = worker.ask(Request(tmp_path / "a.png"))
    assert isinstance(found, UnreadableImageError) and "decoding it takes more than 10 s" in str(found)
    assert not worker.is_alive


def test_a_process_that_cannot_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DataError, match="does not start") as caught:
        decoders._Worker()
    assert "/bin/false" not in caught.value.public


def test_an_error_that_concerns_all_files_leaves_the_process_in_use_and_a_wish_to_stop_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = decoders._Decoders()
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    list(processes.read([Request(tmp_path / "a.png")]))
    worker = processes._idle.queue[0]
    monkeypatch.setattr(worker, "ask", lambda request: DataError("no extra"))
    with pytest.raises(DataError, match="no extra"):
        list(processes.read([Request(tmp_path / "a.png")]))
    assert list(processes._idle.queue) == [worker]

    def interrupt(request: Request) -> Picture:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "ask", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(processes.read([Request(tmp_path / "a.png")]))
    assert not worker.is_alive and processes._idle.empty()
