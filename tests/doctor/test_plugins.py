"""What doctor says of plug-ins."""

from importlib.metadata import EntryPoint

import pytest

from fl_app.doctor import installed as installed_module
from fl_app.doctor.installed import check_plugins
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from tests.options import run_config


@pytest.fixture(autouse=True)
def _wide_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"networks": {"wide": EntryPoint("wide", "wide:build", "fl_app.networks")}}
    monkeypatch.setattr(installed_module, "installed", lambda kind: points.get(kind, {}))


def node(allowed: str = "") -> NodeConfig:
    return NodeConfig.from_flat({"data-path": "/images", "site": "north", "plugins-allowed": allowed})


def study(changes: dict[str, OptionValue]) -> RunConfig:
    return RunConfig.received({**run_config().to_flat(), **changes})


def test_a_study_of_what_is_built_in_needs_nothing() -> None:
    found = check_plugins(run_config(), node())
    assert (found.verdict, found.text) == (
        "ready",
        "The run needs none at this node. Installed here: wide. Allowed: none.",
    )


def test_strategies_samplers_and_heads_of_the_server_are_no_concern_of_a_node() -> None:
    names: dict[str, OptionValue] = {
        "diffusion.strategy": "slow",
        "sampling.sampler": "euler",
        "classification.head": "h",
    }
    assert check_plugins(study({**names, "audit.copies-images": 0}), node()).verdict == "ready"
    found = check_plugins(study(names), node())
    assert found.verdict == "not ready" and "'sampling.sampler' is 'euler'" in found.text  # nodes draw, to find copies


def test_what_is_installed_and_allowed_is_ready() -> None:
    found = check_plugins(study({"classification.network": "wide"}), node("wide"))
    assert (found.verdict, found.text) == (
        "ready",
        "The run needs wide at this node. Installed here: wide. Allowed: wide.",
    )


@pytest.mark.parametrize(
    ("name", "allowed", "words"),
    [
        ("wide", "", "does not import: name it in the node option 'plugins-allowed'"),
        ("deep", "", "does not import: install its package, and name it in the node option"),
        ("deep", "deep", "which the node allows but which is not installed: install its package."),
        ("os:system", "", "it is a path, which only simulations accept."),
    ],
)
def test_what_is_not_there_or_not_allowed_is_named_with_what_to_do(name: str, allowed: str, words: str) -> None:
    found = check_plugins(study({"classification.network": name}), node(allowed))
    assert found.verdict == "not ready"
    assert f"'classification.network' is '{name}'" in found.text
    assert words in found.text


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        ("os:system", "'plugins-allowed' names the path 'os:system', which a run could use to import any program."),
        ("wade", "'plugins-allowed' names 'wade', which is not installed. Did you mean 'wide'?"),
    ],
)
def test_an_allowed_name_that_is_a_path_or_not_installed_is_a_warning(allowed: str, words: str) -> None:
    found = check_plugins(run_config(), node(allowed))
    assert found.verdict == "warning"
    assert words in found.text
