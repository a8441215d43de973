"""From names of runs and grids to runs that can be compared, each with its setting; the others with what is wrong."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fl_app.errors import OptionError, RunFolderError, UnknownRunError
from fl_app.grids.document import GRID, GRIDS, describe_setting, read_grid
from fl_app.grids.reading import RunFigures, read_run
from fl_app.options.sections import OptionValue
from fl_app.runs.overview import find_run, find_runs

# They do not change what a run computes, or differ between the seeds of one setting.
_NO_SETTING = (
    "seed", "output-dir", "run-name", "resume", "recipe", "checkpoint-every", "gallery-every", "tracking",
)  # fmt: skip
_LONGEST_LABEL = 60  # characters
_NODES = "nodes"
_IMAGES = ("data.", "partition.")


@dataclass(frozen=True)
class Found:
    """Run folders, and what is known of them from grids.

    Attributes:
        folders: absolute, each once, in order.
        varied: options that a grid varies.
        nodes: simulated nodes of a grid's runs, by folder.
        grid: the only grid that was named; None if there was none or more than one.
    """

    folders: Sequence[Path]
    varied: Sequence[str]
    nodes: dict[Path, int]
    grid: Path | None


@dataclass(frozen=True)
class Collected:
    """Runs by setting.

    Attributes:
        settings: label of a setting -> its runs, one a seed, in the order in which they were found.
        values: label -> the options that it stands for; those in which the settings differ.
        problems: what was left out, and why.
    """

    settings: dict[str, list[RunFigures]]
    values: dict[str, dict[str, OptionValue]] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @property
    def runs(self) -> list[RunFigures]:
        """All runs."""
        return [run for runs in self.settings.values() for run in runs]

    def meaning(self, setting: str) -> str:
        """Return the options of a setting as text."""
        return ", ".join(f"{name} = {value}" for name, value in self.values.get(setting, {}).items())

    def reference_of(self, setting: str, baseline: str) -> str:
        """Return the setting that a setting is compared with: the baseline, on the setting's own data and split.

        If strategies are compared at several values of `partition.alpha`, each is compared with the baseline's strategy
        at its own alpha. If there is no such setting, or nothing else is varied, this is the baseline.
        """
        own, wanted = self.values.get(setting, {}), self.values.get(baseline, {})
        if all(name.startswith(_IMAGES) for name in wanted):
            return baseline
        wanted = {name: own.get(name, value) if name.startswith(_IMAGES) else value for name, value in wanted.items()}
        return next((label for label, values in self.values.items() if values == wanted), baseline)


def find(named: Iterable[Path], runs: Path) -> Found:
    """Return the run folders of runs, grids and folders that hold runs.

    Args:
        named: a run folder or its name in `runs`; a grid or its name in ~/fl-app/grids; or a folder that holds runs.
        runs: where runs are looked up by name.

    Raises:
        UnknownRunError: one is neither.
    """
    folders: dict[Path, None] = {}
    varied: dict[str, None] = {}
    nodes: dict[Path, int] = {}
    grids: list[Path] = []
    for one in named:
        places = (one.expanduser(), runs / one, GRIDS.expanduser() / one)
        grid = next((path for path in places if (path / GRID).is_file()), None)
        if grid is not None:
            document = read_grid(grid)
            grids.append(grid.resolve())
            varied |= dict.fromkeys(document.varied)
            for cell in document.cells:
                folder = (grid / cell.name).resolve()
                nodes[folder] = document.nodes
                folders[folder] = None
            continue
        try:
            folders[find_run(one, runs)] = None
        except UnknownRunError:
            if not one.expanduser().is_dir():
                raise
            below = sorted(find_runs(one.expanduser()))
            if not below:
                raise UnknownRunError(
                    f"The folder {one} holds no run: there is no run.json in it, or below it."
                ) from None
            folders |= dict.fromkeys(below)
    return Found(list(folders), list(varied), nodes, grids[0] if len(grids) == 1 else None)


def collect(found: Found) -> Collected:
    """Read the runs and sort them by setting: the options in which they differ, the seed left out.

    Raises:
        OptionError: no run can be compared.
    """
    problems, runs = list[str](), list[RunFigures]()
    for folder in found.folders:
        try:
            run = read_run(folder)
        except RunFolderError as error:
            problems.append(f"{folder.name} is left out: {error if folder.exists() else 'it has not been started.'}")
            continue
        runs.append(run)
        problems += [f"{run.name}: {problem}" for problem in run.problems]
    if not runs:
        nothing = (
            [] if found.folders else ["The grid lists no run: remove its grid.json and give `fl-app repeat` again."]
        )
        raise OptionError("\n".join(["There is no finished run to compare.", *nothing, *problems]))
    names = _differing(runs, found)
    settings: dict[str, list[RunFigures]] = {}
    labels = _Labels(is_grid=set(names) <= set(found.varied))
    for run in runs:
        others = settings.setdefault(labels.of(run, _setting(run, names, found)), [])
        twin = next((one for one in others if one.seed == run.seed), None)
        if twin is not None:
            problems.append(f"{run.name} is left out: {twin.name} has the same options and the same seed.")
            continue
        others.append(run)
    return Collected(settings, labels.values, problems)


def _setting(run: RunFigures, names: Sequence[str], found: Found) -> dict[str, OptionValue]:
    """Return the values of these options of a run; an option that it does not know is empty."""
    nodes = found.nodes.get(run.folder, run.nodes)
    return {name: nodes if name == _NODES else run.options.get(name, "") for name in names}


def _differing(runs: Sequence[RunFigures], found: Found) -> list[str]:
    """Name the options that a grid varies, and those in which the runs differ; `nodes` is their number."""
    known = dict.fromkeys(name for run in runs for name in run.options)
    different = [name for name in known if len({run.options.get(name, "") for run in runs}) > 1]
    names = dict.fromkeys((*found.varied, *(name for name in different if name not in _NO_SETTING)))
    if len({found.nodes.get(run.folder, run.nodes) for run in runs}) > 1:
        names[_NODES] = None
    return list(names)


class _Labels:
    """Short names of settings, each one its own; those of a grid are its varied options, however many."""

    def __init__(self, *, is_grid: bool) -> None:
        self._is_grid = is_grid
        self.values: dict[str, dict[str, OptionValue]] = {}

    def of(self, run: RunFigures, setting: dict[str, OptionValue]) -> str:
        """Return the label of a setting, of which this run is one."""
        known = next((label for label, values in self.values.items() if values == setting), None)
        if known is not None:
            return known
        label = describe_setting(setting) if setting else str(run.options.get("recipe", "")) or run.name
        if len(label) > _LONGEST_LABEL and not self._is_grid:  # unlike recipes: the first run's name says more
            label = run.name.removesuffix(f"-seed-{run.seed}")
        taken = sum(one == label or one.startswith(f"{label} (") for one in self.values)
        label = f"{label} ({taken + 1})" if taken else label
        self.values[label] = setting
        return label
