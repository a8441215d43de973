"""Reads all that a run folder holds for its report; what is missing or damaged is left out and told."""

import json
import xml.etree.ElementTree as ET
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fl_app.errors import RunFolderError
from fl_app.runs.documents import ENDED_WELL
from fl_app.runs.exchanges import ExchangeDocument, read_exchange
from fl_app.runs.overview import Overview, RunFiles, look_at
from fl_app.runs.quality import QUALITY
from fl_app.runs.results import lost_results

_MOST_GALLERIES = 6  # of all rounds, evenly spaced, the last one included
_MOST_BYTES = 400_000  # of one picture: larger ones are named and not shown
_PNG = b"\x89PNG\r\n\x1a\n"
_SVG = "{http://www.w3.org/2000/svg}"
_DATA = "data:image/png;base64,"


@dataclass(frozen=True)
class Row:
    """Generated images of one class, side by side, as a PNG in a data URI.

    Attributes:
        weights: that drew them, such as `raw`.
        label: number of the class.
        name: of the class.
        uri: the picture.
        width: in pixels; `height`, too.
    """

    weights: str
    label: int
    name: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """A picture of generated images.

    Attributes:
        name: of its file, such as `round-0005` or `final`.
        rows: images by weights and class; empty if only a plain picture is there.
        uri: the plain picture, of an older version; None if there are rows.
    """

    name: str
    rows: Sequence[Row] = ()
    uri: str | None = None

    @property
    def title(self) -> str:
        """The name for people, such as `round 5`."""
        kind, _, number = self.name.partition("-")
        return f"round {int(number)}" if kind == "round" and number.isdecimal() else "final model"


@dataclass(frozen=True, kw_only=True)
class Material(RunFiles):
    """All that is known of a run.

    Attributes:
        folder: of the run, absolute.
        overview: its state, as `fl-app status` shows it.
        class_names: K names; numbers if the run folder does not say.
        exchanges: of each pass, by round.
        galleries: of generated images, by round, the final one last.
        pictures: data URIs of further pictures, by their path in the folder.
        problems: what could not be read.
    """

    folder: Path
    overview: Overview
    class_names: Sequence[str]
    exchanges: Mapping[str, Sequence[ExchangeDocument]] = field(default_factory=dict)
    galleries: Sequence[Gallery] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[str] = ()

    def last_exchange(self, name: str) -> ExchangeDocument | None:
        """Return the last exchange of a pass; None if it had none."""
        found = self.exchanges.get(name)
        return found[-1] if found else None

    def support(self, part: str) -> list[int]:
        """Return the images of each class over all sites; `part`: train, validation or test."""
        counts = [site.get(part, ()) for site in self.overview.images.values()]
        return [sum(row[label] for row in counts if label < len(row)) for label in range(len(self.class_names))]


def read_material(folder: Path, now: float) -> Material:
    """Read a run folder, whatever state it is in; `now`: unix seconds."""
    overview = look_at(folder, now)
    files, problems = overview.files, list(overview.problems)
    exchanges = _exchanges(folder, problems)
    if files.quality is None and (folder / QUALITY).exists():
        problems.append(f"{QUALITY} is damaged: the figures of generated images are not shown")
    names = _class_names(overview)
    if overview.state in ENDED_WELL:
        problems += lost_results(overview.tasks, files.rounds, files.comparison)
    return Material(
        **vars(files),
        folder=folder,
        overview=overview,
        class_names=names,
        exchanges=exchanges,
        galleries=_galleries(folder, names, problems),
        pictures=_pictures(folder),
        problems=problems,
    )


def _exchanges(folder: Path, problems: list[str]) -> dict[str, list[ExchangeDocument]]:
    found: dict[str, list[ExchangeDocument]] = {}
    for path in sorted(folder.glob("*/prototypes/round-*.json")):
        try:
            found.setdefault(path.parent.parent.name, []).append(read_exchange(path))
        except RunFolderError:
            problems.append(f"{path.relative_to(folder)} is damaged: its figures are not shown")
    return found


def _class_names(overview: Overview) -> Sequence[str]:
    """Return the names of the classes from the first file that has them; else their numbers."""
    document, quality = overview.files.document, overview.files.quality
    if document and (document.class_names or document.agreed):
        return document.class_names or (document.agreed.class_names if document.agreed else ())
    for path in sorted(overview.folder.glob("*/model/classes.json")):
        found = None
        with suppress(OSError, ValueError):
            found = json.loads(path.read_bytes())
        if isinstance(found, dict) and found.keys() == {str(label) for label in range(len(found))}:
            return [str(found[str(label)]) for label in range(len(found))]
    if quality and quality.images_per_class:
        return list(quality.images_per_class)
    width = max((len(row) for site in overview.images.values() for row in site.values()), default=0)
    return [str(label) for label in range(width)]


def _galleries(folder: Path, names: Sequence[str], problems: list[str]) -> list[Gallery]:
    samples = folder / "diffusion" / "samples"
    found = sorted({path.stem for path in samples.glob("[!.]*") if path.suffix in (".png", ".svg")})
    ordered = [name for name in found if name != "final"] + [name for name in found if name == "final"]
    if len(ordered) > _MOST_GALLERIES:
        step = (len(ordered) - 1) / (_MOST_GALLERIES - 1)
        ordered = [ordered[round(place * step)] for place in range(_MOST_GALLERIES)]
    galleries = []
    for name in ordered:
        rows = read_rows(samples / f"{name}.svg", names)
        uri = None if rows else read_picture(samples / f"{name}.png")
        if rows or uri:
            galleries.append(Gallery(name, rows, uri))
        else:
            problems.append(f"diffusion/samples/{name} is too large or damaged: it is not shown")
    return galleries


def read_rows(path: Path, names: Sequence[str]) -> list[Row]:
    """Return the images in the SVG of a gallery, and nothing else of it; none if it is missing or damaged."""
    try:
        if path.stat().st_size > 4 * _MOST_BYTES:
            return []
        images = list(ET.fromstring(path.read_bytes()).iter(f"{_SVG}image"))
        rows = []
        for one in images:
            label, uri = int(one.attrib["data-class"]), one.attrib["href"]
            if not uri.startswith(_DATA) or not set(uri[len(_DATA) :]) <= _BASE64 or not 0 <= label < len(names):
                return []
            size = int(float(one.attrib["data-width"])), int(float(one.attrib["data-height"]))
            rows.append(Row(one.attrib["data-weights"], label, names[label], uri, *size))
    except (OSError, ValueError, LookupError, ET.ParseError):
        return []
    return rows


def read_picture(path: Path) -> str | None:
    """Return a PNG as a data URI; None if it is missing, no PNG, or too large for a report."""
    try:
        content = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
    except OSError:
        return None
    return _DATA + b64encode(content).decode() if content.startswith(_PNG) else None


def _pictures(folder: Path) -> dict[str, str]:
    paths = [*sorted(folder.glob("*/confusion.png"))]
    read = {path.relative_to(folder).as_posix(): read_picture(path) for path in paths}
    return {name: uri for name, uri in read.items() if uri}


_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
