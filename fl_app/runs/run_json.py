"""run.json: a run's options and nodes, written when the run begins, read and added to later; imports nothing heavy."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from pydantic.dataclasses import dataclass

from fl_app.errors import RunFolderError
from fl_app.files import KEBAB, to_json, write_json
from fl_app.options.sections import OptionValue
from fl_app.runs.documents import read_json

_PARAMETERS = {"dirichlet": "alpha", "pathological": "classes-per-node", "shard": "shards-per-node"}


@dataclass(frozen=True, config=KEBAB)
class Agreed:
    """What the hospitals agreed on when the run began."""

    class_names: tuple[str, ...]
    num_channels: int
    image_size: int


@dataclass(frozen=True, config=KEBAB)
class RunDocument:
    """The content of run.json.

    Attributes:
        flower_runs: Flower's ids of the run; each resume adds one.
        started: when, with the time zone.
        options: all options, by dotted name.
        versions: of the most important packages.
        nodes: by site, how many images of each class it trains on, holds out and tests on.
        class_names: K names, known as soon as a site is; empty in runs of older versions.
        answers: by type of message, how many answers of each site to questions outside of rounds arrived, but for the
            judgements of generated images, which quality.json has; None in runs of older versions.
        answer_bytes: the bytes of these questions to all sites, and of the answers.
    """

    run_name: str
    options: dict[str, OptionValue]
    flower_runs: tuple[str, ...] = ()
    started: str | None = None
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    agreed: Agreed | None = None
    class_names: tuple[str, ...] = ()
    answers: dict[str, dict[str, int]] | None = None
    answer_bytes: dict[str, tuple[int, int]] = field(default_factory=dict)


def read_document(folder: Path) -> RunDocument:
    """Read the run.json of a run folder.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    found = read_json(RunDocument, folder / "run.json", ": start a new run instead.")
    if found is None:
        raise RunFolderError(f"{folder} is no run folder: it holds no run.json.")
    return found


def write_document(folder: Path, document: RunDocument) -> None:
    """Write run.json."""
    write_json(folder / "run.json", to_json(document))


def note_run_id(folder: Path, run_id: int) -> None:
    """Add Flower's id of a resumed run to run.json."""
    document = read_document(folder)
    write_document(folder, replace(document, flower_runs=(*document.flower_runs, str(run_id))))


def add_nodes(folder: Path, nodes: Mapping[str, dict[str, list[int]]], class_names: Sequence[str]) -> None:
    """Add new nodes' image counts, and the names of the classes, to run.json; what is already there stays as it is."""
    document = read_document(folder)
    if nodes.keys() - document.nodes.keys():
        names = document.class_names or tuple(class_names)
        known = dict(sorted({**nodes, **document.nodes}.items()))
        write_document(folder, replace(document, nodes=known, class_names=names))


def note_answers(folder: Path, message_type: str, sites: Sequence[str], down: int, up: int) -> None:
    """Count an answer of each of these sites, and all bytes, in run.json, unless an older version began the run."""
    document = read_document(folder)
    if document.answers is not None:
        counts = Counter(document.answers.get(message_type, {}))
        counts.update(sites)
        answers = {**document.answers, message_type: dict(sorted(counts.items()))}
        before = document.answer_bytes.get(message_type, (0, 0))
        sizes = {**document.answer_bytes, message_type: (before[0] + down, before[1] + up)}
        write_document(folder, replace(document, answers=answers, answer_bytes=sizes))


def held_classes(folder: Path) -> list[bool]:
    """Return for each class whether any node of the run ever held a training image of it."""
    counts = [node["train"] for node in read_document(folder).nodes.values()]
    return [any(column) for column in zip(*counts, strict=True)]


def describe_split(options: Mapping[str, OptionValue]) -> str:
    """Return how images are split, such as `dirichlet-0.5`."""
    scheme = str(options.get("partition.scheme", "unknown"))
    value = options.get(f"partition.{_PARAMETERS.get(scheme)}")
    return scheme if value is None else f"{scheme}-{value:g}" if isinstance(value, int | float) else f"{scheme}-{value}"


def new_run_name(recipe: str, unique: str) -> str:
    """Return `<time>-<recipe>-<unique>`, so that names sort by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe}-{unique}"
