"""grid.json: all runs of a grid, written before the first of them starts; imports nothing heavy."""

from pathlib import Path

from pydantic.dataclasses import dataclass

from fl_app.errors import RunFolderError
from fl_app.files import KEBAB, to_json, write_json
from fl_app.options.sections import OptionValue
from fl_app.runs.documents import read_json

GRID = "grid.json"
GRIDS = Path("~/fl-app/grids")  # where grids are made and looked up by name


@dataclass(frozen=True, config=KEBAB)
class Cell:
    """One run of a grid.

    Attributes:
        name: of the run and of its folder, which lies in the grid's.
        seed: of the run.
        setting: the varied options and their values.
    """

    name: str
    seed: int
    setting: dict[str, OptionValue]


@dataclass(frozen=True, config=KEBAB)
class GridDocument:
    """The content of grid.json.

    Attributes:
        recipe: a name or a file; None: the defaults.
        nodes: simulated nodes of every run.
        options: all options but the seed, the varied ones, and the place of the run folder.
        varied: names of the varied options.
        cells: every run, finished or not; the run folders say how each stands.
    """

    recipe: str | None
    nodes: int
    options: dict[str, OptionValue]
    varied: tuple[str, ...]
    cells: tuple[Cell, ...]


def read_grid(folder: Path) -> GridDocument:
    """Read the grid.json of a folder.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    again = ". Remove it and give the same command again: its finished runs are kept."
    found = read_json(GridDocument, folder / GRID, again)
    if found is None:
        raise RunFolderError(f"{folder} is no grid: it holds no {GRID}.")
    return found


def write_grid(folder: Path, document: GridDocument) -> None:
    """Write grid.json."""
    write_json(folder / GRID, to_json(document))


def describe_setting(setting: dict[str, OptionValue]) -> str:
    """Return a setting as text: `name value, …` with the options' last words; the value alone if it is one text."""
    values = {name: show_value(value) for name, value in setting.items()}
    if len(setting) == 1 and all(isinstance(value, str) and value for value in setting.values()):
        return next(iter(values.values()))
    words = short_names(values)
    return ", ".join(f"{words[name]} {value}" for name, value in values.items())


def short_names(names: dict[str, str] | tuple[str, ...]) -> dict[str, str]:
    """Return each option's last word, or its whole name if two options have the same last word."""
    last = {name: name.rsplit(".", 1)[-1] for name in names}
    return {name: word if list(last.values()).count(word) == 1 else name for name, word in last.items()}


def show_value(value: OptionValue) -> str:
    """Return a value as people write it; `none` for an empty text."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"
