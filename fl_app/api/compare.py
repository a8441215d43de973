"""Compares runs in Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fl_app.api.run import Run
from fl_app.runs.overview import runs_folder

if TYPE_CHECKING:
    from fl_app.grids.comparison import Comparison

Named = str | Path | Run


def compare(
    runs: Named | Sequence[Named], *, baseline: str | None = None, folder: str | Path | None = None
) -> "Comparison":
    """Compare finished runs over their seeds: means, deviations, and differences paired by seed.

    Runs that differ only in the seed are one setting. The settings are the options in which the runs differ.

    Args:
        runs: one or several of: a `Run`, a run folder or the name of a run, a grid of `fl-app repeat`, a folder that
            holds runs.
        baseline: the setting that differences are taken to; None: the first.
        folder: where runs are looked up by name; None: ~/fl-app/runs.

    Raises:
        UnknownRunError: there is no such run or grid.
        OptionError: no run is finished, or there is no such setting.
    """
    from fl_app.grids.comparison import compare_runs

    several = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    named = [one.folder if isinstance(one, Run) else Path(one) for one in several]
    return compare_runs(named, runs_folder(folder), baseline)
