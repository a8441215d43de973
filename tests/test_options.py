import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_app.errors import OptionError
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig, default_options, describe_options
from tests.options import run_config

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_pyproject_holds_a_default_for_every_option_and_no_other() -> None:
    assert sorted(default_options(PYPROJECT)) == sorted(name for name, _ in describe_options())


def test_every_option_is_described() -> None:
    assert [name for name, text in describe_options() if not text] == []


def test_options_come_back_from_flat_names_unchanged() -> None:
    config = run_config({"diffusion.block-channels": "8,16,16", "data.class-names": "a,b"})
    assert RunConfig.from_flat(config.to_flat()) == config


def test_recipes_name_known_options_with_values_in_range() -> None:
    recipes = list((PYPROJECT.parent / "recipes").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        flat = default_options_of(recipe)
        RunConfig.from_flat({**default_options(PYPROJECT), **flat})


def default_options_of(recipe: Path) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tomllib.loads(recipe.read_text(encoding="utf-8")).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": entry for key, entry in value.items()}
        else:
            flat[name] = value
    return flat


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("diffusion.batch-size", 0, "Option 'diffusion.batch-size' must be at least 1, got 0."),
        ("data.validation-share", 1.0, "Option 'data.validation-share' must be less than 1.0, got 1.0."),
        ("diffusion.batchsize", 8, "Option 'diffusion.batchsize' does not exist. Did you mean 'diffusion.batch-size'?"),
        ("batch-size", 8, "Option 'batch-size' does not exist. Did you mean 'diffusion.batch-size'?"),
        ("seed", "x", "Option 'seed' must be a valid integer, got 'x'."),
        ("seed.more", 1, "Option 'seed.more' does not exist. Did you mean 'seed'?"),
        ("diffusion.strategy", "FedFoo", "must be FedAvg, FedProx"),
        ("diffusion.block-channels", "31", "block-channels must be multiples of 4"),
        ("diffusion.block-channels", "a", "Option 'diffusion.block-channels"),
        ("sampling.num-steps", 2000, "sampling.num-steps must be at most diffusion.num-timesteps, 1000, got 2000"),
        ("diffusion.learning-rate", float("inf"), "Option 'diffusion.learning-rate' must be a finite number"),
        ("diffusion.block-channels", "24,32", "block-channels must be multiples of 4, and of a quarter"),
        ("tasks", "painting", "Option 'tasks' must be diffusion, classification, or an installed plug-in"),
        ("run-name", "../x", "Option 'run-name'"),
        ("run-name", "..", "Option 'run-name'"),
        ("run-name", ".", "Option 'run-name'"),
        ("recipe", "..", "Option 'recipe'"),
    ],
)
def test_a_bad_option_is_named_with_what_was_found_and_what_is_valid(name: str, value: object, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        RunConfig.from_flat({**default_options(PYPROJECT), name: value})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("classification.strategy", "fedprox", "FedProx"),
        ("classification.baselines", "local,fedavgm", "FedAvgM"),
        ("classification.readings", "consistant", "consistent"),
        ("classification.network", "resnet-18", "resnet18"),
        ("partition.scheme", "Dirichlet", "dirichlet"),
        ("diffusion.optimizer", "AdamW", "adamw"),
        ("tasks", "classifcation", "classification"),
    ],
)
def test_the_value_that_was_probably_meant_is_named(name: str, value: str, meant: str) -> None:
    with pytest.raises(OptionError) as caught:
        RunConfig.from_flat({**default_options(PYPROJECT), name: value})
    assert str(caught.value).endswith(f"got {value.split(',')[-1]!r}. Did you mean '{meant}'?")


def test_nothing_is_suggested_for_a_value_that_is_like_none_of_the_list() -> None:
    with pytest.raises(OptionError, match=r"got 'zzz'\.$"):
        RunConfig.from_flat({**default_options(PYPROJECT), "classification.strategy": "zzz"})


def test_a_missing_option_is_named() -> None:
    options = default_options(PYPROJECT)
    del options["seed"]
    with pytest.raises(OptionError, match="Option 'seed' is missing"):
        RunConfig.from_flat(options)


def test_a_whole_number_is_taken_where_a_fraction_is_expected() -> None:
    assert run_config({"partition.alpha": 1}).partition.alpha == 1.0


@given(st.text(min_size=1, max_size=20))
def test_any_unknown_name_is_refused_and_never_crashes(name: str) -> None:
    options = {**default_options(PYPROJECT), f"zz{name}": 1}
    with pytest.raises(OptionError, match="does not exist"):
        RunConfig.from_flat(options)


@pytest.mark.parametrize(
    ("name", "value", "meant"), [("device", "CUDA", "cuda"), ("tasks-allowed", "difusion", "diffusion")]
)
def test_the_value_of_a_node_option_that_was_probably_meant_is_named(name: str, value: str, meant: str) -> None:
    with pytest.raises(OptionError, match=rf"Did you mean '{meant}'\?$"):
        NodeConfig.from_flat({name: value})


def test_a_node_option_that_nobody_knows_is_refused() -> None:
    with pytest.raises(OptionError, match="Did you mean 'data-path'"):
        NodeConfig.from_flat({"datapath": "/data"})
