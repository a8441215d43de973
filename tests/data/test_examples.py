"""A folder of digits for each of several hospitals."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fl_app.data.digits import read_digits, write_examples
from fl_app.data.folder import read_folder
from fl_app.data.images import DatasetInfo
from fl_app.errors import OptionError, RunFolderError

_INFO = DatasetInfo(tuple("0123456789"), num_channels=1, image_size=8)


def as_rows(images: Tensor, labels: Tensor) -> list[tuple[int, ...]]:
    return sorted(tuple(row) for row in torch.cat([labels[:, None], images.flatten(1)], dim=1).tolist())


def test_the_shares_together_are_the_training_digits_pixel_by_pixel(tmp_path: Path) -> None:
    parts = []
    for number in (1, 2, 3):
        folder = tmp_path / str(number)
        count = write_examples(folder, number, 3)
        parts.append(read_folder(folder, _INFO, "train"))
        assert len(parts[-1]) == count
    images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
    everything = read_digits("train")
    assert as_rows(images, labels) == as_rows(everything.images, everything.labels)


def test_a_class_that_is_there_stays_and_one_half_written_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "own.png").write_bytes(b"own")
    (tmp_path / ".4.partial").mkdir()
    (tmp_path / ".4.partial" / "9999.png").write_bytes(b"")
    count = write_examples(tmp_path, 2, 3)
    assert [path.name for path in (tmp_path / "3").iterdir()] == ["own.png"]
    assert count == sum(1 for _ in tmp_path.glob("*/*.png")) - 1
    assert not (tmp_path / "4" / "9999.png").exists() and list(tmp_path.glob(".*")) == []
    assert write_examples(tmp_path, 2, 3) == 0


@pytest.mark.parametrize("number", [0, 4])
def test_a_share_that_does_not_exist_is_refused_before_anything_is_written(tmp_path: Path, number: int) -> None:
    with pytest.raises(OptionError, match=f"--share must be 1 to 3, as many as --of says, got {number}"):
        write_examples(tmp_path / "new", number, 3)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"file/0 could not be written: .*Not a directory"):
        write_examples(tmp_path / "file", 1, 1)
