"""The cells of a grid: from a recipe, seeds and varied options to runs that are checked, before any of them starts."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

from fl_app.errors import FlAppError, OptionError, RunFolderError
from fl_app.grids.document import GRID, GRIDS, Cell, GridDocument, read_grid, short_names, show_value
from fl_app.options.app_files import read_defaults
from fl_app.options.run import ADDED, RunConfig
from fl_app.options.sections import OptionValue, unknown_option
from fl_app.runs.documents import ENDED_WELL
from fl_app.runs.run_json import read_document
from fl_app.simulation.choices import check_before_start, merge, plan_run, split_values, to_toml

State = Literal["new", "half", "finished"]
Options = Mapping[str, OptionValue]

_OWN = ("seed", "run-name", "output-dir", "resume")  # options that a grid sets for each of its runs
_LONGEST_NAME = 100  # characters


@dataclass(frozen=True)
class Planned:
    """A cell that is checked.

    Attributes:
        cell: its name, seed and setting.
        state: what its folder holds.
        overrides: the options that differ from the app's defaults.
        problem: why it is broken and cannot run; empty if it can.
    """

    cell: Cell
    state: State | Literal["broken"]
    overrides: Options
    problem: str = ""


@dataclass(frozen=True)
class Grid:
    """A grid that is checked and can start.

    Attributes:
        app: folder of the Flower app.
        folder: of the grid, absolute.
        document: what grid.json will hold.
        cells: those that are asked for, in order.
    """

    app: Path
    folder: Path
    document: GridDocument
    cells: Sequence[Planned]

    @property
    def waiting(self) -> list[Planned]:
        """The cells that are not finished and can run."""
        return [one for one in self.cells if one.state in ("new", "half")]


def plan_grid(
    app: Path,
    recipe: str | None,
    settings: Sequence[str],
    varied: Sequence[str],
    seeds: Sequence[int],
    nodes: int,
    out: Path | None,
) -> Grid:
    """Merge and check the options of every cell, and find out what is there of it.

    Args:
        app: folder of the Flower app.
        recipe: a name in the app's `recipes/`, or a TOML file.
        settings: `key=value` each, for all cells.
        varied: `key=a,b,c` each; the cells are the product of all values.
        seeds: of the runs of each setting.
        nodes: simulated nodes.
        out: the grid's folder; None: one below ~/fl-app/grids whose name follows from the options.

    Raises:
        OptionError: an option of a cell is wrong, a grid sets it itself, or a cell's folder holds a run of others.
        RunFolderError: the folder holds another grid.
    """
    defaults = read_defaults(app)
    base = _absolute(merge(app, recipe, settings, defaults))
    values = parse_varied(varied, defaults)
    _check_owned(settings, values)
    options = RunConfig.from_flat({**defaults, **base}).to_flat()
    shared = {name: value for name, value in options.items() if name not in (*_OWN, *values)}
    name = str(options["recipe"])
    folder = (out or GRIDS.expanduser() / f"{name}-{_sum(shared, values, nodes)}").expanduser().absolute()
    cells = make_cells(name, values, seeds)
    document = _join(folder, GridDocument(recipe, nodes, shared, tuple(values), tuple(cells)))
    planned = [_plan(app, recipe, {**base, **cell.setting}, cell, folder, nodes) for cell in cells]
    return Grid(app, folder, document, planned)


def check_cells(grid: Grid) -> None:
    """Read the images and build the networks of every cell that is not finished, as each run does before it starts.

    Raises:
        FlAppError: what would fail at every node of a run; the text names the cell.
    """
    defaults = read_defaults(grid.app)
    for one in grid.waiting:
        config = RunConfig.from_flat({**defaults, **one.overrides})
        resumed = grid.folder / one.cell.name if one.state == "half" else None
        try:
            check_before_start(config, grid.document.nodes, grid.folder, resumed)
        except FlAppError as error:
            raise type(error)(f"{one.cell.name}: {error}") from None


def parse_varied(varied: Sequence[str], defaults: Options) -> dict[str, list[OptionValue]]:
    """Read `key=a,b,c`, or `key=["a,b","c"]` for values that hold commas: the values of each option, in order.

    Raises:
        OptionError: an option does not exist or is varied twice, or a value stands there twice.
    """
    found: dict[str, list[OptionValue]] = {}
    for one in varied:
        name, values = split_values(one, defaults)
        if name not in defaults:
            raise unknown_option(name, list(defaults))
        if name in found:
            raise OptionError(f"--vary may name '{name}' once: put all its values into one list.")
        if len(set(map(repr, values))) < len(values):
            raise OptionError(f"--vary needs different values of '{name}', got {', '.join(map(str, values))}.")
        found[name] = values
    return found


def make_cells(recipe: str, values: Mapping[str, Sequence[OptionValue]], seeds: Sequence[int]) -> list[Cell]:
    """Return every cell, one seed after the other, so that a part of them already covers all settings."""
    words = short_names(tuple(values))
    cells: dict[str, Cell] = {}
    for seed in seeds:
        for combination in product(*values.values()):
            setting = dict(zip(values, combination, strict=True))
            name = _name([f"{words[key]}-{show_value(value)}" for key, value in setting.items()] or [recipe], seed)
            while name in cells:  # values that are told apart only by letters that no folder may have
                name = f"{name}-other"
            cells[name] = Cell(name, seed, setting)
    return list(cells.values())


def state_of(folder: Path, wanted: RunConfig) -> State:
    """Tell what the folder of a cell holds: no run, one that can be resumed, or a finished one.

    Raises:
        OptionError: a run of other options.
        RunFolderError: a damaged run.
    """
    from fl_app.runs.folder import RunFolder, read_status  # imports numpy

    if not (folder / "run.json").exists():
        return "new"
    options = wanted.to_flat()
    added = ADDED | {name: value for name, value in options.items() if name.startswith("plugin-task.")}
    found = {**added, **read_document(folder).options}
    different = [f"{name} (was {found.get(name)!r}, is {options.get(name)!r})" for name in _different(found, options)]
    if different:
        raise OptionError(
            f"{folder} holds a run of other options: {', '.join(different)}. Remove it, or choose another --out."
        )
    return "finished" if read_status(RunFolder(folder)).state in ENDED_WELL else "half"


def _different(found: Options, wanted: Options) -> list[str]:
    """Name the options that differ and change what a run computes; a grid sets some itself."""
    from fl_app.runs.opening import different_options  # imports torch

    return [name for name in different_options(found, wanted) if name == "seed" or name not in _OWN]


def _plan(app: Path, recipe: str | None, chosen: Options, cell: Cell, folder: Path, nodes: int) -> Planned:
    """Check the options of a cell and look into its folder."""
    place = folder / cell.name
    own: dict[str, OptionValue] = {
        **_absolute(chosen),
        "seed": cell.seed,
        "run-name": cell.name,
        "output-dir": str(folder),
    }
    own["resume"] = ""
    try:
        config = RunConfig.from_flat({**read_defaults(app), **own})
        state = state_of(place, config)
        if state == "finished":
            return Planned(cell, state, own)
        if state == "half":
            own["resume"] = str(place)
        plan = plan_run(app, recipe, own, folder, nodes)
    except OptionError as error:
        raise OptionError(f"{cell.name}: {error}") from None
    except RunFolderError as error:  # damaged, or a run is going on there: the other cells can run
        return Planned(cell, "broken", own, str(error))
    return Planned(cell, state, plan.overrides)


def _absolute(options: Options) -> dict[str, OptionValue]:
    """Return options whose folder of images means the same in every folder."""
    found = dict(options)
    if found.get("data.directory"):
        found["data.directory"] = str(Path(str(found["data.directory"])).expanduser().absolute())
    return found


def _check_owned(settings: Sequence[str], values: Mapping[str, object]) -> None:
    """Refuse options that a grid sets for each run, and those that are both set and varied."""
    given = [one.partition("=")[0].strip() for one in settings]
    for name in (*given, *values):
        if name in _OWN:
            instead = "--seeds and --first-seed" if name == "seed" else "--out"
            raise OptionError(f"A grid sets '{name}' for each of its runs: leave it out, and use {instead}.")
    for name in given:
        if name in values:
            raise OptionError(f"'{name}' is both set and varied: leave one out.")


def _join(folder: Path, new: GridDocument) -> GridDocument:
    """Return the grid with the cells that its folder has had before; raises RunFolderError if it is another grid."""
    if not (folder / GRID).exists():
        return new
    old = read_grid(folder)
    pairs = {"--nodes": (old.nodes, new.nodes), "--vary": (sorted(old.varied), sorted(new.varied))}
    added = {**ADDED, **{name: new.options[name] for name in new.options if name.startswith("plugin-task.")}}
    found = {name: value for name, value in {**added, **old.options}.items() if name not in new.varied}
    if set(old.varied) == set(new.varied):
        for name in _different(found, new.options):
            pairs[name] = (found.get(name), new.options.get(name))
    different = [f"{name} (was {was!r}, is {now!r})" for name, (was, now) in pairs.items() if was != now]
    if different:
        raise RunFolderError(
            f"{folder} holds another grid: {', '.join(different)}. Choose another --out. Only seeds and values of "
            "varied options can be added to a grid."
        )
    names = {cell.name for cell in old.cells}
    return replace(new, cells=(*old.cells, *(cell for cell in new.cells if cell.name not in names)))


def _sum(shared: Options, values: Mapping[str, object], nodes: int) -> str:
    """Return six letters that follow from whatever the cells share, so that the same command finds its grid again."""
    text = json.dumps([to_toml(shared), sorted(values), nodes])
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _name(words: Sequence[str], seed: int) -> str:
    """Return a name that a run folder may have."""
    text = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(words))).strip(".")
    if len(text) > _LONGEST_NAME:
        text = f"{text[: _LONGEST_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return f"{text}-seed-{seed}"
