"""Losses that a reader sees, and which weights are used: no single site decides either."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_app.runs.documents import RoundLine
from fl_app.runs.exchanges import draw_confusion
from fl_app.runs.history import STEADY_FACTOR, draw_history, measured_losses
from fl_app.strategies.outcomes import RoundRecord
from fl_app.sums import Sums, elect, mean, steady


def loss_of(sums: Sums) -> float | None:
    return mean(float(sums["loss"]), float(sums["count"]))


def site(raw: float, ema: float, count: float = 10.0) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    losses = {"raw": raw, "ema": ema}
    return {f"{name}/loss": np.array(value * count) for name, value in losses.items()} | {
        f"{name}/count": np.array(count) for name in losses
    }


HONEST = {"a": site(1.0, 0.9), "b": site(1.2, 1.0), "c": site(0.8, 0.7)}


def test_the_losses_of_honest_sites_are_means_over_all_images() -> None:
    found = measured_losses(loss_of, {**HONEST, "c": site(0.8, 0.7, 80.0)})
    assert found.of == {"raw": pytest.approx(0.86), "ema": pytest.approx(0.75)} and found.better == "ema"


@pytest.mark.parametrize("lie", [site(1e4, 0.9), site(0.0, 1e4), site(1e4, 1e4, 1e6), site(0.0, 1.0, 1e6)])
def test_one_site_neither_moves_a_loss_far_nor_chooses_the_weights(lie: Mapping[str, np.ndarray]) -> None:
    truth = measured_losses(loss_of, HONEST)
    found = measured_losses(loss_of, {**HONEST, "liar": lie})
    assert found.better == "ema"
    for name, loss in found.of.items():
        assert truth.of[name] / STEADY_FACTOR <= loss <= truth.of[name] * STEADY_FACTOR


def test_nothing_measured_gives_no_loss_and_no_better_weights() -> None:
    assert measured_losses(loss_of, {}) == measured_losses(loss_of, {"a": site(1.0, 1.0, 0.0)})
    assert measured_losses(loss_of, {}).better is None


def test_of_two_sites_the_images_of_both_decide() -> None:
    parts = {"a": site(1.0, 0.9), "b": site(1.0, 9.0)}
    assert measured_losses(loss_of, parts).better == "raw"
    assert measured_losses(loss_of, parts).of["ema"] == pytest.approx(4.95)


def test_one_site_cannot_move_the_training_loss_far() -> None:
    record = RoundRecord("diffusion", 1)
    for name, loss in (("a", 1.0), ("b", 1.2), ("c", 0.8)):
        record.keep(name, {}, loss * 10.0, 10.0)
    assert record.steady_loss(3.0) == pytest.approx(1.0)
    record.keep("liar", {}, 1e5, 10.0)
    assert record.steady_loss(3.0) == pytest.approx(1.0)
    assert RoundRecord("diffusion", 1).steady_loss(3.0) is None


def test_a_steady_figure_may_be_zero() -> None:
    parts = {name: {"x": np.array(value)} for name, value in (("a", 0.0), ("b", 0.0), ("c", 5.0))}
    assert steady({"x": np.array(5.0)}, parts, lambda sums: float(sums["x"]), 3.0) == 0.0


def test_equal_votes_go_to_the_choice_of_all() -> None:
    def choose(sums: Sums) -> str:
        return "up" if sums["x"] > 0 else "down"

    parts = {name: {"x": np.array(value)} for name, value in (("a", 9.0), ("b", 1.0), ("c", -2.0), ("d", -2.0))}
    assert elect({"x": np.array(6.0)}, parts, choose) == "up"
    more = parts | {"e": {"x": np.array(-2.0)}}
    assert elect({"x": np.array(4.0)}, more, choose) == "down"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [RoundLine(task="t", round=1, outcome="failed")],
        [RoundLine(task="t", round=1, outcome="ok", train_loss=0.5)],
    ],
)
def test_a_history_of_no_loss_or_one_is_drawn(lines: list[RoundLine], tmp_path: Path) -> None:
    draw_history(lines, tmp_path / "history.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.png", "history.svg"]


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("num_classes", [2, 10, 45])
def test_a_confusion_matrix_is_as_wide_as_its_title_and_never_cuts_it(num_classes: int, tmp_path: Path) -> None:
    names = [f"a long name of class {label}" for label in range(num_classes)]
    counts = np.eye(num_classes) * 12
    draw_confusion(counts, names, "short", tmp_path / "short.png")
    draw_confusion(counts, names, "one very long title of a confusion matrix " * 3, tmp_path / "long.png")
    sizes = [size_of(tmp_path / f"{name}.png") for name in ("short", "long")]
    assert sizes[1][1] >= sizes[0][1] and sizes[1][0] >= sizes[0][0]
    assert (tmp_path / "long.svg").is_file()
