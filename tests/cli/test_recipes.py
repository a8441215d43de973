"""Every recipe that comes along holds options that exist, with values that fit."""

import json
import os
from pathlib import Path

import pytest

from fl_app.diffusion.pipeline import ClassConditionalPipeline
from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue
from fl_app.simulation.app import read_recipe
from tests.federation import run_federation

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_valid(recipe: str) -> None:
    config = RunConfig.from_flat(default_options(ROOT / "pyproject.toml") | read_recipe(recipe, ROOT))
    assert config.recipe == recipe


@pytest.mark.skipif(not os.environ.get("FL_APP_DATA"), reason="needs Fashion-MNIST in the folder named by FL_APP_DATA")
def test_the_papers_recipe_trains_and_exports_at_a_reduced_size(tmp_path: Path) -> None:
    smaller: dict[str, OptionValue] = {
        "output-dir": str(tmp_path),
        "run-name": "run",
        "data.image-size": 16,
        "data.limit": 120,
        "diffusion.num-rounds": 2,
        "diffusion.epochs": 1.0,
        "diffusion.block-channels": "8,16,32",
        "diffusion.learning-rate": 1e-3,
        "sampling.num-steps": 3,
        "sampling.images-per-class": 1,
    }
    options = default_options(ROOT / "pyproject.toml") | read_recipe("paper-fashion-mnist", ROOT) | smaller
    run_federation(RunConfig.from_flat(options), 10)
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "completed"
    pipeline = ClassConditionalPipeline.from_pretrained(tmp_path / "run/diffusion/model", low_cpu_mem_usage=False)
    assert pipeline.unet.config.dropout == 0.1
    assert pipeline(["Sneaker"]).shape == (1, 1, 16, 16)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_how_it_is_run(recipe: str) -> None:
    assert f"fl-app run {recipe} --nodes " in (ROOT / "recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
