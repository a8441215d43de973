"""Options for tests: the defaults of pyproject.toml with some of them changed."""

from collections.abc import Mapping
from pathlib import Path

from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue

_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def run_config(overrides: Mapping[str, OptionValue] | None = None) -> RunConfig:
    """Read the defaults, changed by {dotted name: value}, such as {"data.limit": 10}."""
    return RunConfig.from_flat({**default_options(_PYPROJECT), **(overrides or {})})
