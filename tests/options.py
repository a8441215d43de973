"""Options for tests: the defaults of pyproject.toml with some of them changed."""

from collections.abc import Mapping
from pathlib import Path

from fl_app.node.split import derived_key
from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue

_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

# Node options of a hospital with a few images made by a test.
NO_MINIMUMS: dict[str, OptionValue] = {"min-images": 1, "min-held-out": 1, "min-class-count": 1}


def run_config(overrides: Mapping[str, OptionValue] | None = None) -> RunConfig:
    """Read the defaults, changed by {dotted name: value}, such as {"data.limit": 10}."""
    return RunConfig.from_flat({**default_options(_PYPROJECT), **(overrides or {})})


def write_simulated_key(state: Path, site: str, seed: int = 0) -> Path:
    """Give a hospital the key with which a simulation stands for it; return its state's folder."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state / f"split-key@{site}").write_text(derived_key(seed, site).hex())
    return state
