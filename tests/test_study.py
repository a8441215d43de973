"""A hospital that agreed to a study takes part in no run whose options differ in anything that reaches its node."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import client_app
from fl_app.errors import FederationError
from fl_app.logs import clean_text
from fl_app.messages.replay import DRAW
from fl_app.node import permissions
from fl_app.node.permissions import NotAllowedError, check_study
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue, Section
from fl_app.options.study import EXEMPT, differences, is_exempt, read_study
from tests.federation import run_federation
from tests.options import run_config
from tests.test_hospitals import hospitals, write_learnable
from tests.tiny import tiny_run

ROOT = Path(__file__).parents[1]
DEFAULTS = default_options(ROOT / "pyproject.toml")


def another(value: OptionValue) -> OptionValue:
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else value + 1


def hospital(study: Path) -> NodeConfig:
    return NodeConfig.from_flat({"data-path": "/images", "site": "north", "study": str(study)})


def write_study(path: Path, options: dict[str, OptionValue]) -> Path:
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items()))
    return path


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_option_is_compared_or_stands_in_the_list_of_those_that_no_answer_depends_on(name: str) -> None:
    changed = {**DEFAULTS, name: another(DEFAULTS[name])}
    found = [one.option for one in differences(changed, run_config())]
    assert found == ([name] if not is_exempt(name) or is_drawn_with(name, run_config()) else [])


def test_the_list_names_options_that_exist_and_says_why() -> None:
    sections = {name.partition(".")[0] for name in DEFAULTS}
    assert all(name in {*DEFAULTS, *sections} and reason for name, reason in EXEMPT.items())
    assert not is_exempt("strategy.proximal-mu") and not is_exempt("seed") and not is_exempt("data.limit")


def test_what_a_study_does_not_state_has_the_default(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study.toml", {"classification.num-rounds": 3, "run-name": "ours"})
    assert read_study(study).to_flat() == run_config({"classification.num-rounds": 3, "run-name": "ours"}).to_flat()
    check_study(hospital(study), run_config({"classification.num-rounds": 3, "output-dir": "/elsewhere"}))


def test_tables_and_dotted_names_mean_the_same(tmp_path: Path) -> None:
    nested = tmp_path / "nested.toml"
    nested.write_text("seed = 4\n[data]\nimage-size = 8\n")
    flat = write_study(tmp_path / "flat.toml", {"seed": 4, "data.image-size": 8})
    assert read_study(nested) == read_study(flat)


def test_the_refusal_names_the_option_with_both_values_and_reaches_the_server_whole(tmp_path: Path) -> None:
    node = hospital(write_study(tmp_path / "study.toml", {"classification.num-rounds": 3}))
    with pytest.raises(NotAllowedError) as caught:
        check_study(node, run_config({"classification.num-rounds": 30, "seed": 2}))
    told = caught.value.public
    assert "'seed' is 2, agreed was 0 (and 1 more)" in told
    long = run_config({"data.class-names": "a" * 60, "classification.choose-confidence": 0.5})
    with pytest.raises(NotAllowedError) as caught:
        check_study(node, long)
    assert clean_text(f"{'s' * 20}: {caught.value.public}").endswith("agree to these")


@pytest.mark.parametrize("text", [None, "seed = ", "sede = 1", "seed = -1", "", "# cut off", "[data]\n"])
def test_a_study_that_cannot_be_read_allows_no_run_and_tells_no_path(tmp_path: Path, text: str | None) -> None:
    study = tmp_path / "study.toml"
    if text is not None:
        study.write_text(text)
    with pytest.raises(NotAllowedError) as caught:
        check_study(hospital(study), run_config())
    assert str(tmp_path) not in caught.value.public and "takes part in no run" in caught.value.public


def test_without_a_study_every_run_passes() -> None:
    check_study(NodeConfig.from_flat({"data-path": "/images", "site": "north"}), run_config({"seed": 5}))


_RUN: dict[str, OptionValue] = {
    "tasks": "diffusion,classification", "data.source": "folder", "data.image-size": 8, "data.limit": 0,
    "data.class-names": "a,b", "data.num-channels": 1, "classification.readings": "consistent,local",
    "classification.num-rounds": 1, "diffusion.num-rounds": 1,
}  # fmt: skip


@pytest.fixture
def two_hospitals(tmp_path: Path) -> dict[int, dict[str, Any]]:
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    return hospitals(tmp_path, "north", "south", study=str(tmp_path / "study.toml"))


def agree(tmp_path: Path, run: RunConfig) -> None:
    """Write the study of a run: all options that the nodes compare, and no other."""
    compared = [name for name in run.to_flat() if not is_exempt(name) or is_drawn_with(name, run)]
    write_study(tmp_path / "study.toml", {name: value for name, value in run.to_flat().items() if name in compared})


def is_drawn_with(option: str, run: RunConfig) -> bool:
    return run.nodes_draw and option.startswith("sampling.")


def test_the_agreed_run_completes_and_one_with_another_option_does_not_begin(
    tmp_path: Path, two_hospitals: dict[int, dict[str, Any]]
) -> None:
    one_task: dict[str, OptionValue] = {**_RUN, "tasks": "classification"}
    run = tiny_run(tmp_path / "runs", one_task)
    agree(tmp_path, run)
    run_federation(run, 2, node_options=two_hospitals)
    assert json.loads((tmp_path / "runs/run/status.json").read_text())["state"] in ("completed", "degraded")
    other = tiny_run(tmp_path / "others", {**one_task, "data.limit": 20})
    with pytest.raises(FederationError, match=r"'data.limit' is 20, agreed was 0"):
        run_federation(other, 2, node_options=two_hospitals)


def _prefixes() -> dict[type[Section], str]:
    fields = RunConfig.model_fields.values()
    sections = {one.annotation: f"{one.alias}." for one in fields if isinstance(one.annotation, type)}
    return {kind: prefix for kind, prefix in sections.items() if issubclass(kind, Section)} | {RunConfig: ""}


@contextmanager
def watched_options() -> Iterator[set[str]]:
    """Note each option of a run that is read while a node answers a message, but not if all are read to be checked."""
    prefixes, read, depth = _prefixes(), set[str](), {"messages": 0, "checks": 0}
    plain = Section.__getattribute__

    def get(section: Section, name: str) -> Any:
        if depth["messages"] and not depth["checks"] and type(section) in prefixes:
            field = type(section).model_fields.get(name)
            if field is not None and field.annotation not in prefixes:
                read.add(f"{prefixes[type(section)]}{field.alias}")
        return plain(section, name)

    def counting(what: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            depth[what] += 1
            try:
                return function(*arguments, **named)
            finally:
                depth[what] -= 1

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Section, "__getattribute__", get, raising=False)
        patch.setattr(client_app, "app", counting("messages", client_app.app))
        patch.setattr(RunConfig, "received", counting("checks", RunConfig.received))
        patch.setattr(permissions, "not_allowed", counting("checks", permissions.not_allowed))
        yield read


@pytest.mark.parametrize(("replay", "copies"), [("none", 0), ("generated", 0), ("none", 20)])
def test_no_code_of_a_node_reads_an_option_that_a_study_need_not_fix(
    tmp_path: Path, two_hospitals: dict[int, dict[str, Any]], replay: str, copies: int
) -> None:
    every_message: dict[str, OptionValue] = {
        "quality.num-images": 8, "quality.curve": "pixels", "gallery-every": 1, "audit.membership": True,
        "classification.replay": replay, "classification.replay-images": 2, "diffusion.num-rounds": 2,
        "audit.copies-images": copies, "diffusion.epochs": 4.0, "diffusion.learning-rate": 0.01,
    }  # fmt: skip
    run = tiny_run(tmp_path / "runs", {**_RUN, **every_message})
    agree(tmp_path, run)
    with watched_options() as read:
        sent = run_federation(run, 2, node_options=two_hospitals).sent
    registered = {name.removesuffix(".default") for name in client_app.app._registered_funcs}
    assert {one.metadata.message_type for one in sent} == registered - ({DRAW} if replay == "none" else set())
    assert {"seed", "data.image-size", "diffusion.num-timesteps", "classification.augment"} <= read
    assert {name for name in read if is_exempt(name) and not is_drawn_with(name, run)} == {"checkpoint-every"}
    assert any(name.startswith("sampling.") for name in read) == run.nodes_draw == (replay == "generated" or copies > 0)


def test_how_images_are_drawn_is_part_of_a_study_only_if_nodes_draw_them(tmp_path: Path) -> None:
    replay: dict[str, OptionValue] = {"tasks": "diffusion,classification", "classification.replay": "generated"}
    unaudited: dict[str, OptionValue] = {"audit.membership": False}
    drawn = ["sampling.guidance-scale"]
    for agreed, found in (
        (unaudited, []),
        ({"audit.copies-images": 0}, []),
        ({**unaudited, **replay}, drawn),
        ({}, drawn),
    ):
        study = read_study(write_study(tmp_path / "study.toml", {"recipe": "one", **agreed}))
        run = run_config({**agreed, "sampling.guidance-scale": 3.0})
        assert [one.option for one in differences(run.to_flat(), study)] == found
