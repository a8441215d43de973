"""What a hospital lets a run do, and that no run changes it."""

from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from fl_app.errors import OptionError
from fl_app.node import permissions
from fl_app.node.permissions import NotAllowedError, check_task, count_round
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig, default_options, describe_options
from fl_app.options.sections import OptionValue

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def hospital(state: Path, **options: OptionValue) -> NodeConfig:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return NodeConfig.from_flat({"data-path": "/images", "site": "north", "state-dir": str(state), **named})


def set_day(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    class Frozen(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Frozen":
            return cls.fromisoformat(day)

    monkeypatch.setattr(permissions, "datetime", Frozen)


def test_every_task_is_allowed_where_none_is_named(tmp_path: Path) -> None:
    for task in ("", "diffusion", "classification"):
        check_task(hospital(tmp_path), task)


def test_only_named_tasks_are_allowed_and_a_description_always_is(tmp_path: Path) -> None:
    node = hospital(tmp_path, tasks_allowed="classification")
    check_task(node, "classification")
    check_task(node, "")
    with pytest.raises(NotAllowedError, match="does not take part in the task 'diffusion'") as caught:
        check_task(node, "diffusion")
    assert caught.value.public == str(caught.value)


def test_an_unknown_task_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="tasks-allowed must name diffusion, classification or a task that"):
        hospital(tmp_path, tasks_allowed="painting")


def test_the_rounds_of_a_day_are_counted_over_processes_and_begin_anew_each_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in ("2026-03-01", "2026-03-02"):
        set_day(monkeypatch, day)
        for _ in range(2):
            count_round(hospital(tmp_path, max_rounds_per_day=2), "")  # each one reads the file, as a new process does
        with pytest.raises(NotAllowedError, match="has trained 2 times today") as caught:
            count_round(hospital(tmp_path, max_rounds_per_day=2), "")
        assert caught.value.public == str(caught.value)
    assert (tmp_path / "rounds@north").read_text() == "2026-03-02\n" * 2


def test_hospitals_that_share_a_folder_are_counted_apart(tmp_path: Path) -> None:
    count_round(hospital(tmp_path, max_rounds_per_day=1), "")
    count_round(hospital(tmp_path, max_rounds_per_day=1, site="south"), "")


def test_without_a_limit_nothing_is_written(tmp_path: Path) -> None:
    count_round(hospital(tmp_path), "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_count_that_cannot_be_kept_allows_nothing_and_tells_no_path(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "rounds@north"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(NotAllowedError, match="cannot be read or written") as caught:
        count_round(hospital(tmp_path, max_rounds_per_day=9), "")
    assert str(tmp_path) not in caught.value.public


@pytest.mark.parametrize(
    ("name", "value"),
    [("max-rounds-per-day", -1), ("max-unreadable-share", 1.5), ("max-unreadable-share", -0.1), ("min-class-count", 0)],
)
def test_a_limit_out_of_range_is_refused(name: str, value: OptionValue) -> None:
    with pytest.raises(OptionError, match=f"Option '{name}' must be"):
        NodeConfig.from_flat({name: value})


def test_no_option_of_a_run_has_the_name_of_a_nodes_option() -> None:
    ours = {str(field.alias) for field in NodeConfig.model_fields.values()}
    assert {"max-rounds-per-day", "tasks-allowed", "max-unreadable-share"} <= ours
    assert not ours & {name.rsplit(".", 1)[-1] for name, _ in describe_options()}


@pytest.mark.parametrize("name", ["max-rounds-per-day", "tasks-allowed", "data.max-unreadable-share", "device"])
def test_a_run_that_states_a_nodes_option_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="does not exist"):
        RunConfig.from_flat({**default_options(PYPROJECT), name: 5})
