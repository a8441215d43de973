"""Writes the result of each exchange of prototypes: a file a round, and a picture of the confusion matrix."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from fl_app.classification.left_out import LeftOut
from fl_app.classification.selection import HeadRow, Shipped, part_of, rows, withheld
from fl_app.errors import RunFolderError
from fl_app.files import KEBAB, to_json, write_json
from fl_app.pictures import DARKEST, SHADES, fold, name_columns, picture, shorten
from fl_app.runs.documents import read_json, time_label
from fl_app.runs.folder import RunFolder
from fl_app.runs.status import Status
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.prototypes import Exchange
from fl_app.sums import measures_most

log = logging.getLogger(__name__)

_IMAGES = {"test": "test images", "validation": "held-out images, which chose the head (no test set)"}
_MOST_WITH_SHARES, _MOST_WITH_COUNTS = 12, 40  # classes


@dataclass(frozen=True, config=KEBAB)
class ExchangeDocument:
    """The content of `<pass>/prototypes/round-<number>.json`: the result of an exchange of prototypes.

    Attributes:
        contributed: sites whose moments are in the prototypes that ship.
        left_out: outcomes of the other sites.
        withheld: by class, how many sites sent no prototype because they hold too few images of it.
        images: that the prototypes are made of.
        bytes: sent and received: `moments-down`, `moments-up`, `heads-down`, `heads-up`.
        not_defined: why a head is not defined, by `<reading>/<head>`.
        test_set: which test images were measured, `common` or `own parts`; None: there are none.
        results: figures of every head on both parts, over all sites.
        sites: the same figures by site.
        shipped: the head that ships, and why.
        temperatures: by `<reading>/<head>`.
        abstain_distance: an image farther than this from every prototype gets no answer; None: no limit.
        abstain_picture_distance: the same for the distance of brightness, contrast and roughness.
        left_out_heads: what each head reaches on the held-out images of sites whose moments it was built without; None:
            not measured, since this is not the last exchange, fewer than three sites have moments, or nodes use heads
            with networks of their own.
        confusion: of the head that ships, [K, K] counts, true x predicted, on test images, else on held-out ones; None
            in runs of older versions, or if nothing was measured.
    """

    task: str
    round: int
    contributed: list[str]
    left_out: dict[str, NodeOutcome]
    withheld: dict[str, int]
    images: int
    bytes: dict[str, int]
    not_defined: dict[str, str]
    test_set: str | None
    results: list[HeadRow]
    sites: dict[str, list[HeadRow]]
    shipped: Shipped
    temperatures: dict[str, float]
    abstain_distance: float | None
    abstain_picture_distance: float | None
    left_out_heads: LeftOut | None = None
    confusion: list[list[int]] | None = None


class ExchangeRecorder:
    """Keeps the exchanges of a pass: `<pass>/prototypes/round-<number>.json`.

    Attributes:
        done: rounds whose exchange is on disk already.
    """

    def __init__(
        self, name: str, class_names: Sequence[str], folder: RunFolder, status: Status, first_round: int
    ) -> None:
        """Read the files of earlier processes; delete those of rounds that a resumed run repeats.

        Args:
            name: of the pass.
            class_names: of the images.
            folder: of the run.
            status: counts the sites that an exchange leaves out.
            first_round: that the run continues with.

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
            status.count(found.left_out, _label(found, path.stat().st_mtime))
            self._note_most(found)
            self.done.add(number)

    def keep(self, exchange: Exchange) -> None:
        """Write an exchange; after the last round also draw its confusion matrix."""
        selection, number = exchange.selection, exchange.round_number
        pooled = exchange.pooled.get(exchange.source)
        part, shipped = "test" if exchange.test_set else "validation", selection.shipped
        confusion = part_of(exchange.total, part, shipped.reading, shipped.head).get("confusion")
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
            left_out_heads=exchange.left_out_heads,
            confusion=None if confusion is None else confusion.astype(np.int64).tolist(),
        )
        write_json(self._folder / "prototypes" / f"round-{number:04d}.json", to_json(document))
        self.status.count(exchange.left_out, _label(document, time.time()))
        _log_result(document)
        self._note_most(document)
        if exchange.is_last and pooled is not None and confusion is not None:
            title = f"{shipped.head} ({shipped.reading}), {_IMAGES[part]}"
            draw_confusion(confusion, self.class_names, title, self._folder / "confusion.png")

    def _note_most(self, found: ExchangeDocument) -> None:
        """Warn if one site has most of the test images: the test figures then depend on it alone."""
        tested = {
            site: max((row.figures["n"] for row in rows if row.part == "test"), default=0)
            for site, rows in found.sites.items()
        }
        site = measures_most(tested)
        if site is not None:
            share = f"{tested[site]} of all {sum(tested.values())} test images"
            self.status.blemish(f"{site} measured {share}, so the test figures depend on this site alone")
            log.warning(
                "%s measured %s: the test figures depend on this site alone. Compare the figures of each site",
                site,
                share,
            )


def read_exchange(path: Path) -> ExchangeDocument:
    """Read the result of an exchange.

    Raises:
        RunFolderError: the file is damaged.
    """
    found = read_json(ExchangeDocument, path, ". Delete it and resume; the report then lacks its figures.")
    if found is None:
        raise RunFolderError(f"{path} is gone: the report lacks its figures.")
    return found


def draw_confusion(confusion: NDArray[np.float64], class_names: Sequence[str], title: str, path: Path) -> None:
    """Draw how often the images of each class were given each class: counts, and shares of the row; PNG and SVG.

    Args:
        confusion: [K, K] counts, true x predicted.
        class_names: K names.
        title: above the picture.
        path: of the PNG.
    """
    support = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, support, out=np.zeros_like(confusion), where=support > 0)
    num_classes = len(class_names)
    side = max(2.2, (0.52 if num_classes <= _MOST_WITH_SHARES else 0.36) * num_classes)
    with picture(path, side + 1.8, side + 1.4) as figure:
        axes = figure.subplots()
        axes.imshow(shares, cmap=SHADES, vmin=0.0, vmax=DARKEST)
        axes.set_title(fold(f"{title}, n\u00a0=\u00a0{int(confusion.sum())}", side + 1.6))
        names = [shorten(name) for name in class_names]
        name_columns(axes, class_names, side / num_classes)
        axes.set_yticks(
            range(num_classes), [f"{name}  (n = {int(n)})" for name, n in zip(names, support[:, 0], strict=True)]
        )
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if num_classes <= _MOST_WITH_COUNTS:
            for (row, column), count in np.ndenumerate(confusion):
                share = f"\n{100 * shares[row, column]:.0f} %" if count and num_classes <= _MOST_WITH_SHARES else ""
                axes.text(column, row, f"{int(count)}{share}", ha="center", va="center", fontsize=7)


def _label(found: ExchangeDocument, seconds: float) -> str:
    return time_label(f"prototypes of round {found.round} of {found.task}", seconds)


def _log_result(found: ExchangeDocument) -> None:
    """Log each head's accuracy, and the number and kind of images."""
    part = "test" if found.test_set else "validation"
    measured = [row for row in found.results if row.part == part and row.figures["n"] > 0]
    at_home = " (each at home)" if found.test_set == "own parts" else ""
    reached = ", ".join(
        f"{row.reading}/{row.head} {row.figures['accuracy']:.3f}{at_home if row.reading == 'local' else ''}"
        for row in measured
    )
    log.info(
        "%s, prototypes of round %d: accuracy on %d %s: %s. Ships: %s (%s), %s%s",
        found.task,
        found.round,
        max((row.figures["n"] for row in measured), default=0),
        _IMAGES[part],
        reached or "not measured",
        found.shipped.head,
        found.shipped.reading,
        found.shipped.why,
        _at_others(found),
    )


def _at_others(found: ExchangeDocument) -> str:
    """Return what the head that ships reaches at sites whose moments it lacks; empty if that is not known."""
    others, head = found.left_out_heads, found.shipped.head
    accuracy = others.accuracy.get(head) if others else None
    if others is None or accuracy is None:
        return ""
    return (
        f". Built without a site's moments, it reaches {accuracy:.3f} there ({others.images[head]} held-out images of "
        f"classes that two other sites hold), linear {others.linear_accuracy[head]:.3f}"
    )
