"""How many messages of a day a hospital lets read its images."""

from datetime import datetime, tzinfo
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fl_app.messages.records import CONFIG, DESCRIBE, EVALUATE, HEADS, MEMBERSHIP, MOMENTS, TRAIN
from fl_app.node import counting
from fl_app.node.counting import count_message
from fl_app.node.permissions import NotAllowedError
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.training import ClassificationOptions
from fl_app.simulation.app import read_recipe
from tests.data.conftest import write_images
from tests.federation import LocalGrid
from tests.node.test_permissions import PYPROJECT, hospital
from tests.options import run_config
from tests.tiny import tiny_run

QUERIES = (DESCRIBE, EVALUATE, MOMENTS, HEADS, MEMBERSHIP)
RECIPES = sorted(path.stem for path in (PYPROJECT.parent / "recipes").glob("*.toml"))


def set_day(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    class Frozen(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Frozen":
            return cls.fromisoformat(day)

    monkeypatch.setattr(counting, "datetime", Frozen)


def test_the_rounds_of_a_day_are_counted_over_processes_and_begin_anew_each_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, next_day in (("2026-02-28", "2026-03-01"), ("2026-03-01", "2026-03-02")):
        set_day(monkeypatch, day)
        for _ in range(2):
            count_message(hospital(tmp_path, max_rounds_per_day=2), TRAIN)  # each reads the file, as a new process does
        with pytest.raises(
            NotAllowedError, match=r"has trained 2 times today, and .*'max-rounds-per-day' allows 2\."
        ) as no:
            count_message(hospital(tmp_path, max_rounds_per_day=2), TRAIN)
        assert str(no.value).endswith(f"It goes on at midnight UTC, when {next_day} begins.")
        assert no.value.public == str(no.value)


@pytest.mark.parametrize("kind", QUERIES)
def test_every_other_message_that_reads_images_counts_and_training_counts_apart(tmp_path: Path, kind: str) -> None:
    node = hospital(tmp_path, max_rounds_per_day=1, max_queries_per_day=2)
    for one in (DESCRIBE, MOMENTS, TRAIN):
        count_message(node, one)
    with pytest.raises(
        NotAllowedError, match=r"answered 2 messages .* beside training, .*'max-queries-per-day' allows"
    ):
        count_message(node, kind)


@pytest.mark.parametrize("kind", [TRAIN, MOMENTS])
def test_a_clock_that_is_set_to_tomorrow_and_back_gives_no_day_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    node = hospital(tmp_path, max_rounds_per_day=2, max_queries_per_day=2)
    allowed = 0
    for day in ("2026-03-01", "2026-03-02", "2036-01-01") * 4:
        set_day(monkeypatch, day)
        try:
            count_message(node, kind)
            allowed += 1
        except NotAllowedError:
            pass
    assert allowed == 3 * 2


def test_old_days_are_forgotten_and_no_jump_of_the_clock_makes_today_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "_KEPT_DAYS", 5)
    node = hospital(tmp_path, max_rounds_per_day=1)
    for number in range(1, 10):
        set_day(monkeypatch, f"2026-03-{number:02d}")
        count_message(node, TRAIN)
    assert len(list((tmp_path / "counts@north").iterdir())) == 6  # five days, and the one that they were counted on
    for day in ("2036-01-01", "2006-01-01", "2026-03-09"):
        set_day(monkeypatch, day)
        if day == "2026-03-09":
            with pytest.raises(NotAllowedError):
                count_message(node, TRAIN)
        else:
            count_message(node, TRAIN)


def test_hospitals_that_share_a_folder_are_counted_apart(tmp_path: Path) -> None:
    count_message(hospital(tmp_path, max_rounds_per_day=1), TRAIN)
    count_message(hospital(tmp_path, max_rounds_per_day=1, site="south"), TRAIN)


def test_without_a_limit_and_at_a_simulated_node_nothing_is_written(tmp_path: Path) -> None:
    count_message(hospital(tmp_path, max_rounds_per_day=0, max_queries_per_day=0), TRAIN)
    count_message(hospital(tmp_path, max_rounds_per_day=0, max_queries_per_day=0), MOMENTS)
    simulated = {"partition-id": 0, "num-partitions": 2, "state-dir": str(tmp_path), "max-rounds-per-day": 1}
    for _ in range(2):
        count_message(NodeConfig.from_flat(simulated), TRAIN)
    assert list(tmp_path.iterdir()) == []


def test_a_count_that_cannot_be_kept_allows_nothing_and_tells_no_path(tmp_path: Path) -> None:
    (tmp_path / "counts@north").write_text("a file in the folder's place")
    with pytest.raises(NotAllowedError, match="cannot be read or written") as caught:
        count_message(hospital(tmp_path, max_rounds_per_day=9), TRAIN)
    assert str(tmp_path) not in caught.value.public and "counts the" not in caught.value.public


def test_the_count_is_closed_to_other_users(tmp_path: Path) -> None:
    count_message(hospital(tmp_path / "state"), MOMENTS)
    assert {(tmp_path / "state" / name).stat().st_mode & 0o777 for name in ("", "counts@north")} == {0o700}


def test_a_node_whose_folder_is_away_may_be_asked_for_ever_and_an_answered_description_counts(tmp_path: Path) -> None:
    node = {"data-path": str(tmp_path / "data"), "site": "north", "state-dir": str(tmp_path)}
    grid = LocalGrid(tiny_run(tmp_path), 1, node_options={0: {**node, "max-queries-per-day": 1}})
    reasons = []
    for number in range(5):
        if number == 3:
            write_images(tmp_path / "data", {str(digit): 1 for digit in range(10)})
        message = Message(RecordDict({CONFIG: ConfigRecord()}), dst_node_id=1000, message_type=DESCRIBE)
        (key,) = grid.push_messages([message])
        (reply,) = grid.pull_messages([key])
        reasons.append(str(reply.error.reason) if reply.has_error() else "")
    assert all("the data folder does not exist" in reason for reason in reasons[:3]) and reasons[3] == ""
    assert "answered 1 messages that read its images today" in reasons[4]


def most_queries(config: RunConfig) -> int:
    """Return the messages to a node, beside training, of a run: one to agree, two a pass, two an exchange, an audit."""
    options = [plan.options for plan in config.passes()]
    exchanges = [len(one.exchange_rounds) for one in options if isinstance(one, ClassificationOptions)]
    audits = int("diffusion" in config.tasks and config.audit.membership)
    return 1 + 2 * len(config.passes()) + 2 * sum(exchanges) + audits


@pytest.mark.parametrize("recipe", RECIPES)
def test_three_runs_a_day_of_any_recipe_each_resumed_thrice_stay_far_below_the_default_limit(recipe: str) -> None:
    config = run_config(read_recipe(recipe, PYPROJECT.parent))
    assert 12 * most_queries(config) < NodeConfig().max_queries_per_day / 4
    with_all_rounds = (
        most_queries(config) + 2 * config.classification.num_rounds
    )  # `prototype-rounds` names every round
    assert 3 * with_all_rounds < NodeConfig().max_queries_per_day
