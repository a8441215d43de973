"""Writes down what an exchange of prototypes came to: a file a round, a picture, and the classifier to export."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from fl_app.classification.selection import part_of, rows, withheld
from fl_app.files import from_json, to_json, write_json
from fl_app.runs.confusion import draw_confusion
from fl_app.runs.documents import ExchangeDocument
from fl_app.runs.folder import RunFolder, damaged, read_json
from fl_app.runs.status import Status, moment
from fl_app.strategies.agreement import measures_most
from fl_app.strategies.prototypes import Exchange

log = logging.getLogger(__name__)

_IMAGES = {"test": "test images", "validation": "held-out images, which chose the head (no test set)"}


class ExchangeRecorder:
    """Keeps the exchanges of a pass: `<pass>/prototypes/round-<number>.json`.

    Attributes:
        done: rounds whose exchange is on disk already.
    """

    def __init__(
        self, name: str, class_names: Sequence[str], folder: RunFolder, status: Status, first_round: int
    ) -> None:
        """Read what earlier processes wrote; what a resumed run does again is deleted.

        Args:
            name: of the pass.
            class_names: of the images.
            folder: of the run.
            status: counts whom an exchange leaves out.
            first_round: that the run goes on with.

        Raises:
            RunFolderError: a file is damaged.
        """
        self.name = name
        self.class_names = class_names
        self.status = status
        self.done: set[int] = set()
        self._folder = folder.task(name)
        for path in sorted((self._folder / "prototypes").glob("round-*.json")):
            number = int(path.stem.removeprefix("round-"))
            if number >= first_round:
                path.unlink()
                continue
            found = read_exchange(path)
            status.count(found.left_out, _moment(found, path.stat().st_mtime))
            self._note_most(found)
            self.done.add(number)

    def keep(self, exchange: Exchange) -> None:
        """Write an exchange down; after the last round draw its confusion matrix, too."""
        selection, number = exchange.selection, exchange.round_number
        pooled = exchange.pooled.get(exchange.source)
        document = ExchangeDocument(
            task=self.name,
            round=number,
            contributed=exchange.contributed,
            left_out=dict(sorted(exchange.left_out.items())),
            withheld=withheld(self.class_names, pooled),
            images=int(pooled["count"].sum()) if pooled else 0,
            bytes={
                f"{name}-{way}": getattr(traffic, way)
                for name, traffic in exchange.traffic.items()
                for way in ("down", "up")
            },
            not_defined=exchange.undefined,
            test_set=exchange.test_set,
            results=exchange.results,
            sites={site: rows(exchange.scorers, sums, 1) for site, sums in exchange.measured.items()},
            shipped=selection.shipped,
            temperatures=selection.temperatures,
            abstain_distance=selection.abstain_distance,
            abstain_picture_distance=selection.abstain_picture_distance,
        )
        write_json(self._folder / "prototypes" / f"round-{number:04d}.json", to_json(document))
        self.status.count(exchange.left_out, _moment(document, time.time()))
        _log_result(document)
        self._note_most(document)
        if exchange.is_last and pooled is not None:
            self._draw(exchange)

    def _note_most(self, found: ExchangeDocument) -> None:
        """Say that the test figures are one site's word, if it has most of the test images."""
        tested = {
            site: max((row.figures["n"] for row in rows if row.part == "test"), default=0)
            for site, rows in found.sites.items()
        }
        site = measures_most(tested)
        if site is not None:
            share = f"{tested[site]} of all {sum(tested.values())} test images"
            self.status.blemish(f"{site} measured {share}, so that the test figures are its word")
            log.warning("%s measured %s: the test figures are its word. Compare the figures of each site", site, share)

    def _draw(self, exchange: Exchange) -> None:
        """Draw the confusion matrix of the head that ships, over test images, else over those that chose it."""
        part, shipped = "test" if exchange.test_set else "validation", exchange.selection.shipped
        confusion = part_of(exchange.total, part, shipped.reading, shipped.head)["confusion"]
        title = f"{shipped.head} ({shipped.reading}), {_IMAGES[part]}"
        draw_confusion(confusion, self.class_names, title, self._folder / "confusion.png")


def read_exchange(path: Path) -> ExchangeDocument:
    """Read what an exchange came to; raises RunFolderError if the file is damaged."""
    found = from_json(ExchangeDocument, read_json(path))
    if found is None:
        raise damaged(path)
    return found


def _moment(found: ExchangeDocument, seconds: float) -> str:
    return moment(f"prototypes of round {found.round} of {found.task}", seconds)


def _log_result(found: ExchangeDocument) -> None:
    """Say what the heads reached, and on how many images of which part."""
    part = "test" if found.test_set else "validation"
    measured = [row for row in found.results if row.part == part and row.figures["n"] > 0]
    at_home = " (each at home)" if found.test_set == "own parts" else ""
    reached = ", ".join(
        f"{row.reading}/{row.head} {row.figures['accuracy']:.3f}{at_home if row.reading == 'local' else ''}"
        for row in measured
    )
    log.info(
        "%s, prototypes of round %d: accuracy on %d %s: %s. Ships: %s (%s), %s",
        found.task,
        found.round,
        max((row.figures["n"] for row in measured), default=0),
        _IMAGES[part],
        reached or "not measured",
        found.shipped.head,
        found.shipped.reading,
        found.shipped.why,
    )
