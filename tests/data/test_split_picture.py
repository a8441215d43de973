"""Who holds what, as text and as a picture."""

from pathlib import Path

import pytest
from PIL import Image

from fl_app.data.split_picture import draw_split, split_table

_COUNTS = {"site-0": [10, 0], "site-1": [3, 1200]}


def test_a_table_worked_by_hand() -> None:
    assert split_table(_COUNTS, ["cat", "dog"]) == "\n".join(
        [
            "node    cat   dog  total",
            "------------------------",
            "site-0   10     0     10",
            "site-1    3  1200   1203",
            "------------------------",
            "total    13  1200   1213",
        ]
    )


def test_a_table_without_nodes_has_totals_of_zero() -> None:
    assert split_table({}, ["cat", "dog"]).splitlines()[-1].split() == ["total", "0", "0", "0"]


def test_long_class_names_are_cut() -> None:
    assert "colorectal ad…" in split_table({"a": [1]}, ["colorectal adenocarcinoma epithelium"])


@pytest.mark.parametrize(("num_nodes", "num_classes"), [(0, 2), (1, 1), (2, 10), (50, 14), (3, 30)])
def test_a_picture_is_drawn_for_few_and_many(tmp_path: Path, num_nodes: int, num_classes: int) -> None:
    counts = {f"site-{node}": list(range(num_classes)) for node in range(num_nodes)}
    draw_split(counts, [f"class {label}" for label in range(num_classes)], tmp_path / "split.png")
    with Image.open(tmp_path / "split.png") as image:
        assert min(image.size) > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["split.png", "split.svg"]


def test_a_name_is_plain_text_in_a_picture(tmp_path: Path) -> None:
    draw_split({"$\\frac{$": [1, 2], "b": [3, 4]}, ["$x", "\x00<y>"], tmp_path / "split.png")
    assert (tmp_path / "split.svg").is_file()


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "split.png").write_bytes(b"old")
    with pytest.raises(ValueError, match="reshape"):
        draw_split(_COUNTS, ["cat", "dog", "bird"], tmp_path / "split.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
