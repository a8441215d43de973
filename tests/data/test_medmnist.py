"""The sets of MedMNIST, by their flags."""

import hashlib
from pathlib import Path

import medmnist as published
import numpy as np
import pytest
from medmnist.info import INFO

from fl_app.data import medmnist
from fl_app.errors import DataError, OptionError
from fl_app.options.images import DataOptions
from tests.options import run_config

_BRIGHTNESS = {"train": [10, 20, 30], "val": [40], "test": [50, 60]}


def _options(flag: str = "breastmnist", directory: Path | str = "") -> DataOptions:
    return run_config({"data.source": flag, "data.directory": str(directory)}).data


def _write_npz(path: Path, num_channels: int = 1) -> str:
    """Write evenly bright images with labels 0, 1, 0 ...; return the MD5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for split, values in _BRIGHTNESS.items():
        shape = (len(values), 28, 28) if num_channels == 1 else (len(values), 28, 28, 3)
        brightness = np.array(values, dtype=np.uint8).reshape(-1, *[1] * (len(shape) - 1))
        arrays[f"{split}_images"] = np.broadcast_to(brightness, shape)
        arrays[f"{split}_labels"] = (np.arange(len(values), dtype=np.uint8) % 2)[:, None]
    np.savez(path, allow_pickle=False, **arrays)
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("place", ["breastmnist.npz", "medmnist/breastmnist.npz"])
@pytest.mark.parametrize(("split", "labels"), [("train", [0, 1, 0]), ("test", [0, 1])])
def test_a_part_is_read_alone_and_the_published_validation_part_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, split: str, labels: list[int]
) -> None:
    monkeypatch.setitem(INFO["breastmnist"], "MD5", _write_npz(tmp_path / place))
    images = medmnist.load(_options(directory=tmp_path), split)
    assert images.images.shape == (len(labels), 1, 28, 28)
    assert images.images[:, 0, 5, 5].tolist() == _BRIGHTNESS[split]
    assert images.labels.tolist() == labels


def test_colour_images_keep_three_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INFO["bloodmnist"], "MD5", _write_npz(tmp_path / "bloodmnist.npz", num_channels=3))
    assert medmnist.load(_options("bloodmnist", tmp_path), "train").images.shape == (3, 3, 28, 28)
    assert medmnist.info(_options("bloodmnist")).num_channels == 3


def test_class_names_come_in_the_order_of_the_labels() -> None:
    assert medmnist.info(_options("breastmnist")).class_names == ("malignant", "normal, benign")
    assert medmnist.info(_options("organamnist")).class_names[10] == "spleen"


def test_every_flag_with_two_dimensions_and_one_label_is_a_source() -> None:
    flags = medmnist.flags()
    assert len(flags) == 11
    assert {"pathmnist", "retinamnist", "breastmnist"} < set(flags)


@pytest.mark.parametrize(
    ("flag", "reason"),
    [("chestmnist", "several labels each"), ("organmnist3d", "volumes"), ("synapsemnist3d", "volumes")],
)
def test_an_unfit_flag_is_refused_with_the_reason(flag: str, reason: str) -> None:
    with pytest.raises(OptionError, match=rf"got '{flag}', .*{reason}"):
        medmnist.refuse_unfit(flag)


@pytest.mark.parametrize("name", ["breastmnist", "no-such-flag"])
def test_only_unfit_flags_are_refused(name: str) -> None:
    medmnist.refuse_unfit(name)


def test_a_truncated_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "breastmnist.npz"
    monkeypatch.setitem(INFO["breastmnist"], "MD5", _write_npz(file))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"breastmnist.npz is damaged") as caught:
        medmnist.load(_options(directory=tmp_path), "train")
    assert "npz" not in caught.value.public


def test_a_download_lands_in_the_cache(monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    def download(self: published.BreastMNIST) -> None:
        monkeypatch.setitem(INFO["breastmnist"], "MD5", _write_npz(Path(self.root) / "breastmnist.npz"))

    monkeypatch.setitem(INFO["breastmnist"], "MD5", _write_npz(elsewhere / "same.npz"))
    monkeypatch.setattr(published.BreastMNIST, "download", download)
    assert len(medmnist.load(_options(), "train")) == 3
    assert (elsewhere / "cache" / "fl-app" / "medmnist" / "breastmnist.npz").is_file()


def test_no_network_is_an_error_that_says_which_file_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("\n   Automatic download failed!")

    monkeypatch.setattr(published.BreastMNIST, "download", fail)
    with pytest.raises(DataError, match=r"\(Automatic download failed!\). Expected: medmnist/breastmnist.npz"):
        medmnist.load(_options(), "train")


def test_the_published_breast_images_are_546_and_156(real_data: Path) -> None:
    train, test = (medmnist.load(_options(directory=real_data), split) for split in ("train", "test"))
    assert (len(train), len(test)) == (546, 156)
    assert train.class_counts().tolist() == [147, 399]
