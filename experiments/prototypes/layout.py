"""How tables in Markdown show places, shares and differences."""

import statistics
from collections.abc import Iterable, Sequence

from experiments.prototypes.places import Approach, Figure, Place, Results
from fl_app.grids.estimates import Estimate

NOT_DEFINED = "not defined"

_NAMES = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST", "breastmnist": "BreastMNIST"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [list(head), ["---"] * len(head), *(list(row) for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def signed(found: Estimate) -> str:
    """Write a difference and its interval, in percentage points: `+1.20 [+0.30, +2.10]`."""
    if found.mean is None:
        return NOT_DEFINED
    if found.low is None:
        return f"{found.mean:+.2f}"
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def ratio(found: Estimate) -> str:
    """Write a ratio and its interval."""
    if found.mean is None:
        return NOT_DEFINED
    return f"{found.mean:.3f}" + ("" if found.low is None else f" [{found.low:.3f}, {found.high:.3f}]")


def where(place: Place) -> list[str]:
    """Name a place in four cells: data, split, strategy, rounds."""
    return [_NAMES[place.source], _split(place.split), place.strategy, str(place.round)]


def _split(name: str) -> str:
    return "IID" if name == "iid" else name.replace("dirichlet-", "Dirichlet ")


def share(value: float | None, figure: Figure) -> str:
    """Write an accuracy in %, an AUC as it is."""
    if value is None:
        return NOT_DEFINED
    return f"{100 * value:.2f}" if figure == "accuracy" else f"{value:.3f}"


def title(place: Place) -> str:
    """Name a place's data, split and strategy."""
    return f"{_NAMES[place.source]}, {_split(place.split)}, {place.strategy}"


def with_spread(results: Results, place: Place, approach: Approach, figure: Figure = "accuracy") -> str:
    """Write mean and standard deviation over the seeds."""
    values = list(results.values(place, approach, figure).values())
    if not values:
        return NOT_DEFINED
    mean = share(statistics.fmean(values), figure)
    return mean if len(values) == 1 else f"{mean} ± {share(statistics.stdev(values), figure)}"
