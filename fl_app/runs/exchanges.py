"""Writes down what an exchange of prototypes came to: a file a round, a picture, and the classifier to export."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_app.classification.selection import part_of, rows, shipped_document, withheld
from fl_app.files import write_json
from fl_app.report.confusion import draw_confusion
from fl_app.runs.folder import RunFolder, damaged, read_json
from fl_app.runs.status import Status, moment
from fl_app.strategies.outcomes import NodeOutcome
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
            result = read_json(path)
            status.count(_left_out(result, path), _moment(result, path.stat().st_mtime))
            self.done.add(number)

    def keep(self, exchange: Exchange) -> None:
        """Write an exchange down; after the last round draw its confusion matrix, too."""
        selection, number = exchange.selection, exchange.round_number
        pooled = exchange.pooled.get(exchange.source)
        result = {
            "task": self.name,
            "round": number,
            "contributed": exchange.contributed,
            "left-out": {site: vars(node) for site, node in sorted(exchange.left_out.items())},
            "withheld": withheld(self.class_names, pooled),
            "images": int(pooled["count"].sum()) if pooled else 0,
            "bytes": {
                f"{name}-{way}": getattr(traffic, way)
                for name, traffic in exchange.traffic.items()
                for way in ("down", "up")
            },
            "not-defined": exchange.undefined,
            "test-set": exchange.test_set,
            "results": rows(exchange.scorers, exchange.total, len(exchange.measured)),
            "sites": {site: rows(exchange.scorers, sums, 1) for site, sums in exchange.measured.items()},
            "shipped": shipped_document(selection.shipped),
            "temperatures": selection.temperatures,
            "abstain-distance": selection.abstain_distance,
            "abstain-picture-distance": selection.abstain_picture_distance,
        }
        write_json(self._folder / "prototypes" / f"round-{number:04d}.json", result)
        self.status.count(exchange.left_out, _moment(result, time.time()))
        _log_result(result)
        if exchange.is_last and pooled is not None:
            self._draw(exchange)

    def _draw(self, exchange: Exchange) -> None:
        """Draw the confusion matrix of the head that ships, over test images, else over those that chose it."""
        part, shipped = "test" if exchange.test_set else "validation", exchange.selection.shipped
        confusion = part_of(exchange.total, part, shipped.reading, shipped.head)["confusion"]
        title = f"{shipped.head} ({shipped.reading}), {_IMAGES[part]}"
        draw_confusion(confusion, self.class_names, title, self._folder / "confusion.png")


def _left_out(result: Mapping[str, Any], path: Path) -> dict[str, NodeOutcome]:
    """Read whom an earlier exchange left out; raises RunFolderError if the file is damaged."""
    try:
        return {site: NodeOutcome(**node) for site, node in result.get("left-out", {}).items()}
    except (AttributeError, TypeError):
        raise damaged(path) from None


def _moment(result: Mapping[str, Any], seconds: float) -> str:
    return moment(f"prototypes of round {result.get('round')} of {result.get('task')}", seconds)


def _log_result(result: dict[str, Any]) -> None:
    """Say what the heads reached, and on how many images of which part."""
    part = "test" if result["test-set"] else "validation"
    found = [row for row in result["results"] if row["part"] == part and row["figures"]["n"] > 0]
    at_home = " (each at home)" if result["test-set"] == "own parts" else ""
    reached = ", ".join(
        f"{row['reading']}/{row['head']} {row['figures']['accuracy']:.3f}{at_home if row['reading'] == 'local' else ''}"
        for row in found
    )
    num_images = max((row["figures"]["n"] for row in found), default=0)
    shipped = result["shipped"]
    message = "%s, prototypes of round %d: accuracy on %d %s: %s. Ships: %s (%s), %s"
    head, reading, why = shipped["head"], shipped["reading"], shipped["why"]
    images = _IMAGES[part]
    log.info(
        message, result["task"], result["round"], num_images, images, reached or "not measured", head, reading, why
    )
