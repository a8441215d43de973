"""The tables of a report on what a run took: time, bytes, and what left each site."""

from collections.abc import Sequence

from fl_app.runs.documents import RoundLine
from fl_app.runs.report.reading import Material
from fl_app.runs.report.tables import NOT_DEFINED, Cell, Table

_ANSWERED = ("contributed", "empty", "refused")  # a rejected reply has left its site, too
_KINDS = (
    "A reply to a training round holds the weights after local training, sums and counts of losses, its number of "
    "images and its time.",
    "An exchange holds sums of embeddings by class, and counts of right and wrong answers. A judgement holds sums of "
    "features, and counts.",
    "Each site has also told its name, the names of its classes and its number of images of each class. Rejected "
    "replies are counted: they have left the site. Replies that came too late are not known to have.",
)


def costs_table(material: Material) -> Table | None:
    """Return time and bytes of each pass; None if no round has ended."""
    rows = []
    for name in dict.fromkeys(one.task for one in material.rounds):
        lines = [one for one in material.rounds if one.task == name]
        seconds = [one.seconds for one in lines if one.seconds is not None]
        speeds = [one.images_per_second for one in lines if one.images_per_second is not None]
        rows.append(
            [
                Cell(name),
                Cell(
                    str(len(lines)),
                    f"{failed} failed" if (failed := sum(one.outcome == "failed" for one in lines)) else "",
                ),
                Cell(f"{sum(seconds):,.1f} s" if seconds else NOT_DEFINED),
                Cell(f"{sum(seconds) / len(seconds):,.2f} s" if seconds else NOT_DEFINED),
                Cell(size(sum(one.bytes_down for one in lines) / len(lines))),
                Cell(size(sum(one.bytes_up for one in lines) / len(lines))),
                Cell(f"{sum(speeds) / len(speeds):,.0f}" if speeds else NOT_DEFINED),
            ]
        )
    if not rows:
        return None
    columns = ["pass", "rounds", "time of all", "time a round", "sent a round", "received a round", "images/s"]
    notes = [
        f"The exchange of prototypes of {one.task} after round {one.round}: {size(sum(one.bytes.values()))} in all."
        for found in material.exchanges.values()
        for one in found[-1:]
    ]
    judged = material.quality
    if judged and judged.bytes_down:
        both = f"{size(judged.bytes_down)} sent, {size(judged.bytes_up)} received, {judged.seconds:.1f} s"
        notes.append(f"Judging the generated images: {both}.")
    return Table("Time and bytes, mean of each pass", columns, rows, notes=notes)


def sent_table(material: Material) -> Table | None:
    """Return how often each site sent weights and sums; None if no round has ended."""
    passes = list(dict.fromkeys(one.task for one in material.rounds))
    sites = sorted({site for one in material.rounds for site in one.nodes})
    if not sites:
        return None
    replies = {(site, name): _replies(material.rounds, site, name) for site in sites for name in passes}
    means = []
    for name in passes:
        total = sum(replies[site, name] for site in sites)
        sent = sum(one.bytes_up for one in material.rounds if one.task == name)
        means.append(Cell(size(sent / total) if total else NOT_DEFINED))
    rows = []
    for site in sites:
        exchanged = sum(site in one.contributed for found in material.exchanges.values() for one in found)
        judged = sum(
            site in outcomes and outcomes[site].outcome in _ANSWERED
            for outcomes in ((material.quality.sites or {}).values() if material.quality else ())
        )
        rows.append(
            [Cell(site), *(Cell(str(replies[site, name])) for name in passes), Cell(str(exchanged)), Cell(str(judged))]
        )
    rows.append([Cell("one reply, mean"), *means, Cell(""), Cell("")])
    columns = ["site", *(f"weights, {name}" for name in passes), "sums of exchanges", "judgements of images"]
    return Table("How often each site has sent what", columns, rows, frozenset({len(rows) - 1}), _KINDS)


def size(num_bytes: float) -> str:
    """Return a number of bytes as text."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def _replies(rounds: Sequence[RoundLine], site: str, name: str) -> int:
    return sum(site in one.nodes and one.nodes[site].outcome in _ANSWERED for one in rounds if one.task == name)
