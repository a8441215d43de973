"""The tables of a report on the data: what each site holds and did; and the cells of all tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fl_app.runs.documents import FAULTS, SiteCounts
from fl_app.runs.exchanges import ExchangeDocument
from fl_app.runs.report.outcomes import OUTCOMES
from fl_app.runs.report.reading import Material

NOT_DEFINED = "not defined"
NOTHING = "-"
MOST_WITH_SHARES = 12  # classes

_OWN = {  # images of a site, by ExchangeDocument.test_set
    "common": "its share of the common test images",
    "own parts": "its own test images",
    None: "its held-out images",
}
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Cell:
    """A cell of a table: a text, a smaller one below it, and how dark it is, from 0 to 1; None: not shaded."""

    text: str
    below: str = ""
    shade: float | None = None


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its heading.

    Attributes:
        caption: what it shows.
        columns: headings.
        rows: of cells.
        marked: rows that stand out, such as the head that ships.
        notes: below it.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | Markup]]
    marked: frozenset[int] = frozenset()
    notes: Sequence[str] = ()


def split_table(material: Material) -> Table | None:
    """Return how many training images of each class each site has; None if nothing is known."""
    images, names = material.overview.images, material.class_names
    if not images or not names:
        return None
    counts = {site: list(parts.get("train", ())) for site, parts in images.items()}
    largest = max((max(row, default=0) for row in counts.values()), default=0)
    has_shares = len(names) <= MOST_WITH_SHARES
    rows = []
    for site, row in counts.items():
        total = sum(row)
        cells = [Cell(str(n), percent(n, total) if has_shares else "", n / largest if largest else 0.0) for n in row]
        rows.append([Cell(site), *cells, Cell(str(total))])
    for part, name in (("train", "all sites"), ("validation", "held out, all sites"), ("test", "test, all sites")):
        support = material.support(part)
        total = sum(support)
        rows.append(
            [Cell(name), *(Cell(str(n), percent(n, total) if has_shares else "") for n in support), Cell(str(total))]
        )
    notes = ["Each cell: images, and their share of the row." if has_shares else "Each cell: images."]
    lone = [
        name
        for label, name in enumerate(names)
        if sum(bool(row[label]) for row in counts.values() if label < len(row)) == 1
    ]
    if lone:
        notes.append(f"One site alone holds: {', '.join(lone)}.")
    missing = [name for label, name in enumerate(names) if material.support("train")[label] == 0]
    if missing:
        notes.append(f"No site has a training image of: {', '.join(missing)}.")
    return Table(
        "Training images of each site and class",
        ["site", *names, "all"],
        rows,
        frozenset(range(len(rows) - 3, len(rows))),
        notes,
    )


def sites_table(material: Material) -> Table | None:
    """Return each site's images, outcomes and figures; None if no site is known."""
    sites = material.overview.sites.keys() | material.overview.images.keys()
    if not sites:
        return None
    exchange = material.last_exchange("classification")
    rows = []
    for site in sorted(sites):
        parts = material.overview.images.get(site, {})
        sizes = [Cell(str(sum(parts[part]))) if part in parts else Cell(NOTHING) for part in _PARTS]
        counts = material.overview.sites.get(site, SiteCounts())
        faults = [f"{getattr(counts, name)} times {OUTCOMES[name]}" for name in FAULTS if getattr(counts, name)]
        held = sum(n > 0 for n in parts.get("train", ()))
        rows.append(
            [
                Cell(site),
                *sizes,
                Cell(f"{held} of {len(material.class_names)}") if parts else Cell(NOTHING),
                Cell(str(counts.contributed), f"{counts.empty} without images" if counts.empty else ""),
                Cell("; ".join(faults) or "none", counts.reason or ""),
                *([_at_site(exchange, site)] if exchange else []),
            ]
        )
    columns = ["site", "training", "held out", "test", "classes", "contributions", "faults (last reason)"]
    note = "Contributions are counted over all passes, baselines included. The accuracy is that of the head that ships."
    if exchange:
        columns.append(f"accuracy on {_OWN.get(exchange.test_set, 'its own images')}")
    return Table("Sites", columns, rows, notes=[note])


def percent(part: float, whole: float) -> str:
    """Return a share as text; empty if there is no whole."""
    return f"{100 * part / whole:.0f} %" if whole else ""


def _at_site(exchange: ExchangeDocument, site: str) -> Cell:
    """Return what the head that ships reaches at a site, on its test images, else on its held-out ones."""
    pair, found = (exchange.shipped.reading, exchange.shipped.head), exchange.sites.get(site, [])
    for part in ("test", "validation"):
        for row in found:
            if (
                (row.reading, row.head) == pair
                and row.part == part
                and row.figures["n"]
                and row.figures["accuracy"] is not None
            ):
                interval = row.intervals.get("accuracy")
                around = f"{interval[0]:.3f} to {interval[1]:.3f}, " if interval else ""
                kind = "test" if part == "test" else "held-out"
                return Cell(f"{row.figures['accuracy']:.3f}", f"{around}{row.figures['n']} {kind} images")
    return Cell(NOT_DEFINED, "no image measured")
