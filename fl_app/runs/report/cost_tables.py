"""The tables of a report on what a run took: time, bytes, and what left each site."""

from collections import Counter
from collections.abc import Iterable, Mapping

from fl_app.messages.quality import QUALITY
from fl_app.messages.records import EVALUATE, HEADS, MEMBERSHIP, MOMENTS
from fl_app.messages.replay import DRAW
from fl_app.runs.report.reading import Material
from fl_app.runs.report.tables import NOT_DEFINED, Cell, Table
from fl_app.strategies.node_outcome import ARRIVED, NodeOutcome

ANSWERS = {  # to questions outside of rounds, by type of message
    EVALUATE: "final measurements",
    MOMENTS: "sums of embeddings",
    HEADS: "measurements of heads",
    DRAW: "counts of drawn images",
    MEMBERSHIP: "answers to the audit",
    QUALITY: "answers on image quality",
}
_CONTENTS = (
    "A reply to a training round holds the weights after local training, sums and counts of losses, its number of "
    "images and its time.",
    "All other answers hold sums and counts: of losses and of right and wrong answers (final measurements, heads), of "
    "embeddings by class, of images that the site drew, of images by score and of near copies (audit), and of features "
    "and right answers (image quality, for the curve over the rounds, too).",
    "Rejected replies are counted: they have left the site. Not counted: descriptions, in which each site has told its "
    "name, the names of its classes and its number of images of each class, once or more; texts of errors; replies "
    "that came too late; and rounds that a resumed run repeated. At a hospital, the command fl-app sent shows all.",
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
    sizes = material.document.answer_bytes if material.document else {}
    notes = [
        f"Outside of rounds, {ANSWERS.get(kind, kind)} of all sites: {size(down)} sent, {size(up)} received."
        for kind, (down, up) in sizes.items()
    ]
    if not _are_recorded(material):
        notes += [
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
    rounds, answers = material.rounds, _answers(material)
    sites = sorted({site for one in rounds for site in one.nodes}.union(*answers.values()))
    if not rounds or not sites:
        return None
    passes = dict.fromkeys(one.task for one in rounds)
    replies = {name: _arrived(one.nodes for one in rounds if one.task == name) for name in passes}
    sent = {name: sum(one.bytes_up for one in rounds if one.task == name) for name in passes}
    means = [
        Cell(size(sent[name] / total) if (total := found.total()) else NOT_DEFINED) for name, found in replies.items()
    ]
    counts = [*replies.values(), *answers.values()]
    rows = [[Cell(site), *(Cell(str(found[site])) for found in counts)] for site in sites]
    rows.append([Cell("one reply, mean"), *means, *(Cell("") for _ in answers)])
    columns = ["site", *(f"weights, {name}" for name in passes), *(ANSWERS.get(kind, kind) for kind in answers)]
    notes = list(_CONTENTS)
    if not _are_recorded(material):
        lost = ", ".join(ANSWERS[kind] for kind in (EVALUATE, HEADS, DRAW))
        notes.append(f"run.json holds no record of further answers, so they are not counted: {lost}, and the curve's.")
    return Table("How often each site has sent what", columns, rows, frozenset({len(rows) - 1}), notes)


def _are_recorded(material: Material) -> bool:
    return material.document is not None and material.document.answers is not None


def _answers(material: Material) -> dict[str, Counter[str]]:
    """Return how many answers of each site arrived, by type of message, without types that no site has answered."""
    recorded = (material.document.answers if material.document else None) or {}
    found = {kind: Counter(recorded.get(kind, {})) for kind in (*ANSWERS, *recorded)}
    if not _are_recorded(material):  # of an older version
        exchanges = [one for of_pass in material.exchanges.values() for one in of_pass]
        found[MOMENTS].update(site for one in exchanges for site in one.contributed)
        audit = material.overview.audit
        found[MEMBERSHIP].update(audit.answered if audit else ())
    found[QUALITY].update(_arrived(((material.quality and material.quality.sites) or {}).values()))
    return {kind: counts for kind, counts in found.items() if counts}


def _arrived(outcomes: Iterable[Mapping[str, NodeOutcome]]) -> Counter[str]:
    return Counter(site for nodes in outcomes for site, node in nodes.items() if node.outcome in ARRIVED)


def size(num_bytes: float) -> str:
    """Return a number of bytes as text."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes:.0f} B"
