"""MNIST and Fashion-MNIST from idx files."""

import gzip
import hashlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from torchvision.datasets import MNIST, FashionMNIST

from fl_app.data import mnist
from fl_app.errors import DataError
from fl_app.options.images import DataOptions
from tests.options import run_config

_PUBLISHED = {"mnist": MNIST, "fashion-mnist": FashionMNIST}
_LABELS = [3, 0, 9]


def _options(source: str, directory: Path | str = "") -> DataOptions:
    return run_config({"data.source": source, "data.directory": str(directory)}).data


def _write_training_files(folder: Path) -> dict[str, str]:
    """Write three images, image k as bright as k; return {name: MD5}."""
    folder.mkdir(parents=True)
    pixels = np.repeat(np.arange(3, dtype=np.uint8), 28 * 28).tobytes()
    contents = {
        "train-images-idx3-ubyte.gz": bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 28, 0, 0, 0, 28]) + pixels,
        "train-labels-idx1-ubyte.gz": bytes([0, 0, 8, 1, 0, 0, 0, 3, *_LABELS]),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(gzip.compress(content))
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in contents}


@pytest.fixture(params=["mnist", "fashion-mnist"])
def source(request: pytest.FixtureRequest) -> str:
    """Name both sources in turn."""
    return str(request.param)


@pytest.fixture
def directory(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with three images in the layout of torchvision, and let their checksums be the published ones."""
    published = _PUBLISHED[source]
    checksums = _write_training_files(tmp_path / published.__name__ / "raw")
    monkeypatch.setattr(published, "resources", list(checksums.items()))
    return tmp_path


def _raw_file(directory: Path) -> Path:
    return next(directory.glob("*/raw/train-images*"))


def test_images_and_labels_come_in_the_order_of_the_file(source: str, directory: Path) -> None:
    images = mnist.load(_options(source, directory), "train")
    assert images.images.shape == (3, 1, 28, 28)
    assert images.images[:, 0, 13, 13].tolist() == [0, 1, 2]
    assert images.labels.tolist() == _LABELS
    assert images.class_names == mnist.info(_options(source)).class_names


def test_a_truncated_file_is_named(source: str, directory: Path) -> None:
    file = _raw_file(directory)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is damaged") as caught:
        mnist.load(_options(source, directory), "train")
    assert "idx3" not in caught.value.public


def test_a_missing_file_is_named(source: str, directory: Path) -> None:
    _raw_file(directory).unlink()
    with pytest.raises(DataError, match=r"holds no file (Fashion)?MNIST/raw/train-images-idx3-ubyte.gz"):
        mnist.load(_options(source, directory), "train")


@pytest.mark.parametrize("error", [RuntimeError("Error downloading"), URLError("no route"), OSError("timed out")])
def test_no_network_is_an_error_that_says_which_files_are_needed(
    source: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise error

    monkeypatch.setattr(MNIST, "download", fail)
    with pytest.raises(DataError, match=r"MNIST/raw/train-images-idx3-ubyte.gz.*'data.directory'"):
        mnist.load(_options(source), "train")


def test_the_published_files_hold_60000_and_10000_images(source: str, real_data: Path) -> None:
    train, test = (mnist.load(_options(source, real_data), split) for split in ("train", "test"))
    assert (len(train), len(test)) == (60_000, 10_000)
    assert test.class_counts().sum() == 10_000
    assert train.labels[:5].tolist() == {"mnist": [5, 0, 4, 1, 9], "fashion-mnist": [9, 0, 0, 3, 0]}[source]
