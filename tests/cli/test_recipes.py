"""Every recipe that comes along holds options that exist, with values that fit."""

from pathlib import Path

import pytest

from fl_app.cli.choices import read_recipe
from fl_app.config import RunConfig, default_options

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_valid(recipe: str) -> None:
    config = RunConfig.from_flat(default_options(ROOT / "pyproject.toml") | read_recipe(recipe, ROOT))
    assert config.recipe == recipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_how_it_is_run(recipe: str) -> None:
    assert f"fl-app run {recipe} --nodes " in (ROOT / "recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
