"""What a hospital lets a run do, and that no run changes it."""

from pathlib import Path

import pytest

from fl_app.errors import OptionError
from fl_app.node.permissions import NotAllowedError, check_task
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig, default_options, describe_options
from fl_app.options.sections import OptionValue

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def hospital(state: Path, **options: OptionValue) -> NodeConfig:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return NodeConfig.from_flat({"data-path": "/images", "site": "north", "state-dir": str(state), **named})


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max-rounds-per-day", -1),
        ("max-queries-per-day", -1),
        ("max-unreadable-share", 1.5),
        ("max-unreadable-share", -0.1),
        ("min-class-count", 0),
    ],
)
def test_a_limit_out_of_range_is_refused(name: str, value: OptionValue) -> None:
    with pytest.raises(OptionError, match=f"Option '{name}' must be"):
        NodeConfig.from_flat({name: value})


def test_no_option_of_a_run_has_the_name_of_a_nodes_option_but_those_that_simulated_nodes_take_from_it() -> None:
    ours = {str(field.alias) for field in NodeConfig.model_fields.values()}
    assert {"max-rounds-per-day", "tasks-allowed", "max-unreadable-share"} <= ours
    shared = {"validation-share", "test-share", "min-images", "min-held-out", "min-class-count"}
    assert ours & {name.rsplit(".", 1)[-1] for name, _ in describe_options()} == shared


@pytest.mark.parametrize("name", ["max-rounds-per-day", "tasks-allowed", "data.max-unreadable-share", "device"])
def test_a_run_that_states_a_nodes_option_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="does not exist"):
        RunConfig.from_flat({**default_options(PYPROJECT), name: 5})
