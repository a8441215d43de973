"""What one run reached: every figure of its folder, with the images that it was measured on."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fl_app.errors import RunFolderError
from fl_app.options.run import ADDED
from fl_app.options.sections import OptionValue
from fl_app.quality import figure
from fl_app.runs.documents import ENDED_WELL, RoundLine
from fl_app.runs.overview import look_at
from fl_app.runs.quality import QUALITY, QualityDocument
from fl_app.runs.results import COMPARISON, lost_results, read_figure
from fl_app.runs.run_json import RunDocument, describe_split, read_document

if TYPE_CHECKING:
    from fl_app.runs.exchanges import ExchangeDocument

NOT_DEFINED = "not defined"
SHIPS = "ships"
OWN_LAYER = "own layer"
PROTOTYPES = "prototypes"
GENERATED = "generated images"

_MARKS = (" (ships)", " (chosen)")


@dataclass(frozen=True)
class Figure:
    """A number that a run reached.

    Attributes:
        task: the pass that it is of, such as `classification`.
        method: how it was reached: `ships`, `own layer`, `prototypes`, or the name of a baseline; empty if there is
            one way only.
        head: `<reading>/<head>`; empty if it is not of a head.
        name: such as `accuracy`.
        value: None if it is not defined.
        images: that it was measured on; None if it was not measured on images.
        why: it is not defined.
        site: that it is of; empty: all sites together.
        generated: how many generated images it compares, since distances depend on the number; None: none.
        network: in whose features it compares them, if different runs may have different ones.
        neighbours: k, of a figure that depends on it; 0: it does not.
    """

    task: str
    method: str
    head: str
    name: str
    value: float | None
    images: int | None = None
    why: str = ""
    site: str = ""
    generated: int | None = None
    network: str = ""
    neighbours: int = 0

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What two runs' figures must share to be compared."""
        return self.task, self.method, self.head, self.name, self.site


@dataclass(frozen=True)
class RunFigures:
    """A finished run, read.

    Attributes:
        folder: of the run.
        options: all of them; those that an older version lacked with the value that it used.
        seed: of the run.
        data: the source of the images, and what was chosen of it.
        split: how the images lie at the sites.
        classes: names, or their number if the names follow from the source.
        nodes: how many sites took part.
        figures: in the order of tables.
        rounds: of all passes, as metrics.jsonl has them.
        problems: what is wrong with the folder though the run has ended well.
    """

    folder: Path
    options: Mapping[str, OptionValue]
    seed: int
    data: str
    split: str
    classes: str
    nodes: int
    figures: Sequence[Figure]
    rounds: Sequence[RoundLine]
    problems: Sequence[str] = field(default=())

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.folder.name


def read_run(folder: Path) -> RunFigures:
    """Read a run that has ended well.

    Raises:
        RunFolderError: the folder holds no run, a damaged one, one that trains nothing, or one that has not ended well.
    """
    overview = look_at(folder, 0.0)
    files = overview.files
    document = files.document or read_document(folder)  # which says what is wrong with it
    options = {**ADDED, **document.options}
    if not str(options.get("tasks", "")).strip():
        raise RunFolderError("the run names no task, so there is nothing to compare.")
    seed = options.get("seed", document.seed)
    if not isinstance(seed, int):
        raise RunFolderError("the run names no seed, so it cannot be paired with others.")
    if overview.state not in ENDED_WELL:
        state = "stopped" if overview.is_stopped else overview.state
        reason = f": {overview.progress.reason}" if overview.progress.reason else ""
        raise RunFolderError(f"the run has not ended well. It is {state}{reason}")
    problems = [*overview.problems, *lost_results(overview.tasks, files.rounds, files.comparison)]
    if "diffusion" in overview.tasks and options.get("quality.num-images", 0) != 0 and files.quality is None:
        problems.append(f"{QUALITY} is missing or damaged: the figures of generated images are not known")
    exchange = _last_exchange(folder, problems)
    figures = [
        *_test_figures(files.comparison, str(options.get("classification.strategy", ""))),
        *(_of_sites(exchange) if exchange else ()),
        *_of_rounds(files.rounds, document),
        *(_of_images(files.quality, folder.name) if files.quality else ()),
    ]
    return RunFigures(
        folder=folder,
        options=options,
        seed=seed,
        data=_describe_data(options),
        split=describe_split(options),
        classes=_describe_classes(document),
        nodes=len(document.nodes),
        figures=figures,
        rounds=files.rounds,
        problems=problems,
    )


def _last_exchange(folder: Path, problems: list[str]) -> "ExchangeDocument | None":
    """Return the last exchange of prototypes; None if there was none, or if its file is damaged, which is told."""
    found = sorted((folder / COMPARISON).parent.glob("prototypes/round-*.json"))
    if not found:
        return None
    from fl_app.runs.exchanges import read_exchange  # takes seconds

    try:
        return read_exchange(found[-1])
    except RunFolderError:
        problems.append(f"{found[-1].relative_to(folder)} is damaged: the figures of each site are not known")
        return None


def _describe_data(options: Mapping[str, OptionValue]) -> str:
    """Return the images of a run, such as `fashion-mnist, limit 6000`."""
    parts = [str(options.get("data.source", "unknown"))]
    for name in ("directory", "limit", "image-size", "test-share", "num-channels"):
        value = options.get(f"data.{name}")
        if value and not (name == "test-share" and parts[0] != "folder"):
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def _describe_classes(document: RunDocument) -> str:
    named = document.agreed.class_names if document.agreed else ()
    stated = str(document.options.get("data.class-names", ""))
    counts = {len(classes) for node in document.nodes.values() for classes in node.values()}
    return ",".join(named) or stated or "/".join(map(str, sorted(counts)))


def _test_figures(comparison: Sequence[Mapping[str, str]], strategy: str) -> Iterator[Figure]:
    """Yield the rows of comparison.csv; that of the head that ships twice, the first time under `ships`."""
    found: list[Figure] = []
    ships: list[Figure] = []
    for row in comparison:
        approach, head = row.get("approach") or "", f"{row.get('reading')}/{row.get('head')}"
        base = approach
        for mark in _MARKS:
            base = base.removesuffix(mark)
        base, plus, _ = base.partition(" + ")
        method = (
            (PROTOTYPES if plus else OWN_LAYER) if base == strategy else base + (f" + {PROTOTYPES}" if plus else "")
        )
        figures = [_of_cell(row, name, method, head) for name in figure.CLASSIFIED]
        found += figures
        if approach.endswith(_MARKS[0]):
            ships = [Figure(one.task, SHIPS, "", one.name, one.value, one.images, one.why) for one in figures]
    yield from ships
    yield from found


def _of_cell(row: Mapping[str, str], name: str, method: str, head: str) -> Figure:
    """Return a figure of a row; a text in its place says why there is none."""
    value, images = read_figure(row.get(name)), read_figure(row.get("n"))
    why = ""
    if not isinstance(value, int | float) or not math.isfinite(value):
        texts = [one for one in (value, images, row.get("images")) if isinstance(one, str) and one != "test"]
        why, value = (texts[0] if texts else "not in comparison.csv"), None
    return Figure("classification", method, head, name, value, images if isinstance(images, int) else None, why)


def _of_sites(exchange: "ExchangeDocument") -> Iterator[Figure]:
    """Yield what the head that ships reaches at each site: on its own test part, else on its held-out images."""
    part = "test" if exchange.test_set == "own parts" else "validation"
    shipped = (exchange.shipped.reading, exchange.shipped.head)
    for site, rows in sorted(exchange.sites.items()):
        for row in rows:
            if (row.reading, row.head, row.part) == (*shipped, part):
                value, images = row.figures["accuracy"], int(row.figures["n"])
                why = "" if value is not None else f"no {part} image"
                yield Figure("classification", SHIPS, "", "home-accuracy", value, images, why, site)
    yield Figure("classification", "", "", "exchange-bytes", float(sum(exchange.bytes.values())))


def _of_rounds(rounds: Sequence[RoundLine], document: RunDocument) -> Iterator[Figure]:
    """Yield loss, rounds and costs of each pass, and each site's training time."""
    held_out = sum(sum(node.get("validation", ())) for node in document.nodes.values())
    for task in dict.fromkeys(line.task for line in rounds):
        lines = [line for line in rounds if line.task == task]
        counted = [line for line in lines if line.outcome == "ok"]
        losses = [line.validation_loss for line in counted if line.validation_loss is not None]
        seconds = [line.seconds for line in counted if line.seconds is not None]
        why = "no held-out images" if not held_out else "no round measured it"
        values: dict[str, float | None] = {
            "rounds": len(counted),
            "failed-rounds": len(lines) - len(counted),
            "bytes-down-a-round": statistics.fmean(line.bytes_down for line in counted) if counted else None,
            "bytes-up-a-round": statistics.fmean(line.bytes_up for line in counted) if counted else None,
            "seconds-a-round": statistics.median(seconds) if seconds else None,
            "seconds": sum(line.seconds or 0.0 for line in lines),
        }
        last = losses[-1] if losses else None
        yield Figure(task, "", "", "held-out-loss", last, held_out or None, "" if losses else why)
        for name, value in values.items():
            yield Figure(task, "", "", name, value, why="" if value is not None else "no round counted")
        for site in sorted({site for line in counted for site in line.nodes}):
            nodes = [line.nodes[site] for line in counted if site in line.nodes]
            times = [node.seconds for node in nodes if node.outcome == "contributed"]
            value = statistics.median(times) if times else None
            yield Figure(task, "", "", "seconds-a-round", value, None, "" if times else "it never contributed", site)


def _of_images(quality: QualityDocument, run: str) -> Iterator[Figure]:
    """Yield the figures of generated images of a run, named so.

    The network whose features one compares, and its class if it is of one class, stand in place of the head. A file of
    an older version does not say which classifier is its network: it is the run's own.
    """
    for one in quality.figures:
        is_defined = one.value is not None and math.isfinite(one.value)
        yield Figure(
            "diffusion",
            GENERATED if one.class_name is None else f"{GENERATED}, one class",
            "/".join(part for part in (one.features, one.class_name) if part),
            one.name,
            one.value if is_defined else None,
            one.measured_on[0] or None,
            "" if is_defined else one.reason or "not measured",
            generated=one.num_generated if one.features else None,
            network=one.network or (run if one.features == "classifier" else ""),
            neighbours=quality.neighbours if one.name in figure.NEIGHBOURS else 0,
        )
