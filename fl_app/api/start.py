"""Starts a simulated run from Python, and lists the options of a run."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fl_app.api.run import Run
from fl_app.errors import FederationError
from fl_app.options.app_files import join_values, read_defaults
from fl_app.options.run import describe_options
from fl_app.options.sections import OptionValue
from fl_app.simulation.app import find_app
from fl_app.simulation.follow import prepare, run_to_end
from fl_app.simulation.processes import Interrupted, interruptible

if TYPE_CHECKING:
    import pandas

Options = Mapping[str, OptionValue | Path | Sequence[int | float | str]]


def run(
    recipe: str | Path | None = None,
    *,
    nodes: int = 5,
    options: Options | None = None,
    out: str | Path | None = None,
    gpu_share: float | None = None,
    quiet: bool = False,
) -> Run:
    """Simulate a federation on this machine, as `fl-app run` does, and return the run when it has ended.

    This starts several processes and ends them all. After an interrupt (Ctrl-C, or the notebook's stop button) the run
    can be resumed: `run(..., options={..., "resume": folder})`.

    Args:
        recipe: the name of a recipe, such as `demo`, or a TOML file; None: the defaults.
        nodes: simulated nodes.
        options: values by dotted name, which override the recipe's: {"diffusion.num-rounds": 3}. `list_options` lists
            them; a list stands for comma-separated text.
        out: where run folders are made; None: ~/fl-app/runs.
        gpu_share: part of a GPU for each node; None: some if there is a GPU.
        quiet: print nothing, instead of a line for each round.

    Raises:
        OptionError: an option, or the recipe, is wrong.
        DataError: the images cannot be used.
        FederationError: the run failed; the text says why, and where its folder is.
        KeyboardInterrupt: it was interrupted.

    Warns:
        UserWarning: the run is degraded: it finished, but a site did not contribute to some round.
    """
    chosen: dict[str, OptionValue] = {}
    for name, value in (options or {}).items():
        plain = str(value) if isinstance(value, Path) else value
        chosen[name] = plain if isinstance(plain, bool | int | float | str) else join_values(name, list(plain))
    recipe_name = None if recipe is None else str(recipe)
    prepared = prepare(recipe_name, chosen, nodes, None if out is None else Path(out), gpu_share, None)
    try:
        with interruptible():
            outcome, log = run_to_end(prepared, Console(highlight=False, quiet=quiet))
    except Interrupted:
        raise KeyboardInterrupt from None
    if outcome.state == "failed" or outcome.folder is None:
        where = f"Its folder: {outcome.folder}" if outcome.folder else f"Flower's last words:\n{log}"
        raise FederationError(f"The run failed: {outcome.reason}. {where}")
    if outcome.state == "degraded":
        sites = "; ".join(f"{site}: {reason}" for site, reason in outcome.sites.items())
        warnings.warn(f"The run is degraded. {sites or outcome.reason}", stacklevel=2)
    return Run(outcome.folder)


def list_options() -> "pandas.DataFrame":
    """Return a row for each option of a run: its default and its meaning, by dotted name."""
    import pandas

    defaults = read_defaults(find_app())
    rows = [(name, defaults[name], meaning) for name, meaning in describe_options()]
    return pandas.DataFrame(rows, columns=["option", "default", "meaning"]).set_index("option")
