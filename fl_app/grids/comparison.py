"""Many runs side by side: what `compare` returns in Python, and what the command writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fl_app.files import write_text
from fl_app.grids.collecting import Collected, collect, find
from fl_app.grids.comparing import Line, choose_baseline, compare_figures
from fl_app.grids.reading import GENERATED, SHIPS
from fl_app.grids.tables import COLUMNS, difference, images, page, rows, spread, to_csv

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Comparison:
    """Runs that were read and compared.

    Attributes:
        collected: the runs by setting.
        lines: each figure of each setting.
        baseline: the setting that differences are taken to.
        grid: the grid's folder, if one grid was named.
    """

    collected: Collected
    lines: Sequence[Line]
    baseline: str
    grid: Path | None = None

    @property
    def settings(self) -> list[str]:
        """The labels of the settings."""
        return list(self.collected.settings)

    @property
    def problems(self) -> list[str]:
        """Which runs were left out, and why."""
        return list(self.collected.problems)

    def rows(self) -> "pandas.DataFrame":
        """Return a row for each run and figure, as in comparison.csv; a value that is not defined is nan."""
        import pandas

        table = pandas.DataFrame(list(rows(self.collected)), columns=list(COLUMNS))
        return table.assign(value=pandas.to_numeric(table["value"]), images=pandas.to_numeric(table["images"]))

    def table(self) -> "pandas.DataFrame":
        """Return a row for each setting and figure: mean, deviation, its 95 % interval, and the paired difference.

        Columns: setting, task, method, head, site, figure, mean, deviation, low, high, seeds, images, reference,
        difference, difference-low, difference-high, pairs, note. What is not defined is nan, and the note says why.
        """
        import pandas

        return pandas.DataFrame([row_of(line) for line in self.lines]).astype(
            dict.fromkeys((*_NUMBERS, "difference-low", "difference-high"), "float64")
        )

    def summary(self) -> tuple[list[str], list[list[str]]]:
        """Return the head and the cells of a small table: what ships, drawn images, and the last loss of each task."""
        kept = [
            line
            for line in self.lines
            if not line.figure.site
            and (
                (line.figure.method == SHIPS and line.figure.name in ("accuracy", "balanced-accuracy", "auc"))
                or line.figure.name == "held-out-loss"
                or line.figure.method == GENERATED
            )
        ]
        rows = [
            [
                line.setting,
                " ".join(part for part in (_of(line), line.figure.name) if part),
                spread(line.over_seeds, line.figure.name),
                difference(line),
                str(line.over_seeds.num_seeds),
                images(line),
            ]
            for line in kept
        ]
        return ["setting", "figure", "mean ± deviation", "difference, 95 %", "seeds", "images"], rows

    def to_json(self) -> dict[str, object]:
        """Return settings, problems and the table's rows as JSON takes them; what is not defined is None."""
        return {
            "baseline": self.baseline,
            "settings": {
                label: {"options": self.collected.values[label], "runs": [run.folder for run in runs]}
                for label, runs in self.collected.settings.items()
            },
            "problems": self.problems,
            "rows": [row_of(line) for line in self.lines],
        }

    def write(self, folder: str | Path) -> list[Path]:
        """Write comparison.csv, comparison.md and the pictures into a folder, and return the paths of the files.

        Raises:
            RunFolderError: a file cannot be written.
        """
        from fl_app.grids.pictures import draw_all

        place = Path(folder)
        write_text(place / "comparison.csv", to_csv(self.collected))
        pictures = draw_all(self.collected, self.lines, place)
        text = page(self.collected, self.lines, self.baseline, [path.name for path in pictures])
        write_text(place / "comparison.md", text)
        return [place / "comparison.csv", place / "comparison.md", *pictures]


def _of(line: Line) -> str:
    """Return what a figure of the small table is of, if its name does not say so: the task, or a network."""
    return line.figure.head if line.figure.method else line.figure.task


_NUMBERS = ("mean", "deviation", "low", "high", "difference")


def row_of(line: Line) -> dict[str, object]:
    """Return a line by column."""
    figure, found, other = line.figure, line.over_seeds, line.difference
    return {
        "setting": line.setting,
        "task": figure.task,
        "method": figure.method,
        "head": figure.head,
        "site": figure.site,
        "figure": figure.name,
        "mean": found.mean,
        "deviation": found.deviation,
        "low": found.low,
        "high": found.high,
        "seeds": found.num_seeds,
        "images": max(line.images, default=None),
        "reference": line.reference,
        "difference": other.mean,
        "difference-low": other.low,
        "difference-high": other.high,
        "pairs": other.num_seeds,
        "note": line.why,
    }


def compare_runs(named: Sequence[Path], runs: Path, baseline: str | None = None) -> Comparison:
    """Compare runs and grids.

    Args:
        named: run folders or names of runs; grids; folders that hold runs.
        runs: where runs are looked up by name.
        baseline: the setting that differences are taken to; None: the first.

    Raises:
        UnknownRunError: one of them does not exist.
        OptionError: no run is finished, or there is no such setting.
    """
    found = find(named, runs)
    collected = collect(found)
    reference = choose_baseline(collected, baseline)
    return Comparison(collected, compare_figures(collected, reference), reference, found.grid)
