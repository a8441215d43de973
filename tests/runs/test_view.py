"""What the progress view shows."""

import io

import pytest
from rich.console import Console

from fl_app.runs.documents import RoundLine
from fl_app.runs.progress import Progress
from fl_app.runs.view import LineView, describe_round, draw, format_time, open_view
from fl_app.strategies.node_outcome import NodeOutcome

RUNNING = Progress(
    state="running",
    task="diffusion",
    round=3,
    num_rounds=15,
    replied=("site0", "site1"),
    failed={"site2": "[red]out of memory"},
    awaited=("site3",),
    loss=0.1234,
    validation_loss=0.2,
    images_per_second=120.4,
    seconds_left=100,
)

ROUND = RoundLine(
    task="diffusion",
    round=3,
    num_rounds=15,
    outcome="ok",
    train_loss=0.1234,
    validation_loss=0.2,
    images_per_second=120.4,
    seconds=75.0,
    nodes={"site0": NodeOutcome("contributed"), "site1": NodeOutcome("refused", "[b]not finite")},
)


def print_text(progress: Progress) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(draw(progress, elapsed_seconds=65))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "expected",
    [
        "training diffusion",
        "3/15",
        "2 replied, 1 failed, awaiting site3",
        "site2: [red]out of memory",
        "0.1234 (validation 0.2000)",
        "120 images/s",
        "1:05, about 1:40 left",
    ],
)
def test_the_live_picture_shows(expected: str) -> None:
    assert expected in print_text(RUNNING)


def test_the_live_picture_of_a_start_is_short() -> None:
    text = print_text(Progress("starting"))
    assert "starting Flower" in text
    assert "round" not in text
    assert "loss" not in text


def test_a_round_is_one_line_and_one_for_each_node_that_is_missing() -> None:
    assert describe_round(ROUND) == (
        "diffusion round 3/15  loss 0.1234 (validation 0.2000)  1 of 2 nodes  120 images/s  1:15\n"
        "  site1 refused: [b]not finite"
    )


def test_a_failed_round_says_why() -> None:
    failed = RoundLine(task="diffusion", round=2, outcome="failed", reason="no quorum")
    assert describe_round(failed) == "diffusion round 2/?  failed: no quorum  0 of 0 nodes"


def test_a_round_that_says_no_more_than_its_number_is_no_error() -> None:
    said = describe_round(RoundLine(task="x", round=1, outcome="failed"))
    assert said == "x round 1/?  failed: no reason given  0 of 0 nodes"


def test_without_a_terminal_each_change_is_printed_once() -> None:
    console = Console(file=io.StringIO(), width=40)
    view = LineView(console)
    shown: list[tuple[Progress, tuple[RoundLine, ...]]] = [
        (Progress("starting"), ()),
        (Progress("starting"), ()),
        (RUNNING, ()),
        (RUNNING, (ROUND,)),
    ]
    for progress, rounds in shown:
        view.show(progress, rounds)
        view.show(progress, rounds)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[:2] == ["starting Flower", "training diffusion"]
    assert lines[2].startswith("diffusion round 3/15")
    assert lines[3:] == ["  site1 refused: [b]not finite"]


def test_a_terminal_gets_the_live_picture() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with open_view(console) as view:
        view.show(RUNNING, ())
    assert isinstance(console.file, io.StringIO)
    assert "training diffusion" in console.file.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")])
def test_durations(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
