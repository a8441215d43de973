"""The last round of a classification run: moments in, heads out, and which of them ships (Qiao et al. 2023)."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fl_app.artifacts import RunFolder, damaged, read_json
from fl_app.classification.bundle import Bundle
from fl_app.classification.heads import Head, build_heads, distance_map, linear_head
from fl_app.classification.moments import pool
from fl_app.classification.pictures import picture_map
from fl_app.classification.vouching import contradicted
from fl_app.metrics.additive import Statistics, add
from fl_app.metrics.choosing import choose_head
from fl_app.metrics.classification import best_temperature, figures
from fl_app.metrics.intervals import intervals
from fl_app.metrics.voting import steady
from fl_app.records import HEADS as ASK_HEADS
from fl_app.records import MOMENTS, Weights, add_heads, to_tensors
from fl_app.report.confusion import draw_confusion
from fl_app.runs import held_classes
from fl_app.status import Status, moment
from fl_app.strategies.admission import Refusal
from fl_app.strategies.exchange import Traffic
from fl_app.strategies.ledger import NodeOutcome
from fl_app.strategies.resilient import Resilient
from fl_app.strategies.sums_admission import check_head_sums, check_site_moments
from fl_app.tasks.classification import ClassificationTask
from fl_app.tasks.readings import MEASURED_WITH, PARTS, HeadSet, Scorer, blank_head_sums, distance_quantile
from fl_app.writing import write_json

log = logging.getLogger(__name__)

_LINEAR = ("global", "linear")
_STEADY_FACTOR = 1.25  # by more than this no single site may move a temperature or a limit of distances
_IMAGES = {"test": "test images", "validation": "held-out images, which chose the head (no test set)"}


class LastRound:
    """Exchanges prototypes after the rounds that ask for it, and makes the classifier that ships.

    Attributes:
        task: says which readings.
        strategy: knows the nodes and asks them.
        folder: of the run; each exchange is written to `<task>/prototypes/round-<number>.json`.
    """

    def __init__(
        self, task: ClassificationTask, strategy: Resilient, folder: RunFolder, status: Status, first_round: int
    ) -> None:
        self.task = task
        self.strategy = strategy
        self.folder = folder
        self.status = status
        for path in sorted(self._results().glob("round-*.json")):
            if int(path.stem.removeprefix("round-")) >= first_round:
                path.unlink()  # a resumed run does that round again
                continue
            result = read_json(path)
            status.count(_left_out(result, path), _moment(result, path.stat().st_mtime))

    def between(self, grid: Grid, round_number: int, weights: Weights) -> None:
        """Exchange prototypes after a round, where that is due and not done yet."""
        if round_number in self.task.options.exchange_rounds and not self._path(round_number).exists():
            self._exchange(grid, round_number, weights)

    def finish(self, grid: Grid, weights: Weights) -> None:
        """Exchange prototypes after the last round and give the task its bundle to export."""
        self._exchange(grid, self.task.options.num_rounds, weights)

    def _exchange(self, grid: Grid, number: int, weights: Weights) -> None:
        traffic = {"moments": Traffic(), "heads": Traffic()}
        is_last = number == self.task.options.num_rounds
        parts, left_out = self._collect(grid, number, weights, traffic["moments"])
        heads, pooled, undefined = self._build(weights, parts)
        content = self.strategy.instruction(number, weights)
        add_heads(content, heads.to_arrays())
        scorers = heads.scorers(self.task.measured_readings())
        blank = blank_head_sums(scorers, len(self.task.info.class_names), heads.with_joint)
        measured, outcomes = self.strategy.ask(grid, ASK_HEADS, content, blank, traffic["heads"], self._judge_heads)
        left_out |= {site: node for site, node in outcomes.items() if node.outcome != "contributed"}
        total = add([blank, *measured.values()])
        if self.task.is_alone:
            scorers.remove(_LINEAR)  # the mean of networks that were trained apart
        shipped = self._choose(heads, total, measured)
        limits = self._limits(heads, total, measured)
        source = MEASURED_WITH[self.task.shipped_reading]
        used = pooled.get(source)
        result = {
            "task": self.task.name,
            "round": number,
            "contributed": sorted(site for site, sums in parts.get(source, {}).items() if sums["count"].any()),
            "left-out": {site: vars(node) for site, node in sorted(left_out.items())},
            "withheld": self._withheld(used),
            "images": int(used["count"].sum()) if used else 0,
            "bytes": {f"{name}-{way}": getattr(traffic[name], way) for name in traffic for way in ("down", "up")},
            "not-defined": undefined,
            "test-set": self._test_set(total),
            "results": self._rows(scorers, total, len(measured)),
            "sites": {site: self._rows(scorers, sums, 1) for site, sums in measured.items()},
            "shipped": shipped,
            "temperatures": self._temperatures(scorers, total, measured),
            "abstain-distance": limits[0],
            "abstain-picture-distance": limits[1],
        }
        write_json(self._path(number), result)
        self.status.count(left_out, _moment(result, time.time()))
        _log_result(result)
        if is_last and used is not None:
            self._bundle(weights, heads, used, shipped, result)
            self._draw(total, shipped)

    def _collect(
        self, grid: Grid, number: int, weights: Weights, traffic: Traffic
    ) -> tuple[dict[str, dict[str, Statistics]], dict[str, NodeOutcome]]:
        """Return each site's moments, by what they were measured with; and who is left out."""
        readings, blank = self.task.readings, self.task.blank_moments()
        parts: dict[str, dict[str, Statistics]] = {}
        left_out: dict[str, NodeOutcome] = {}
        if "consistent" in readings:
            content = self.strategy.instruction(number, weights)
            parts["consistent"], outcomes = self.strategy.ask(grid, MOMENTS, content, blank, traffic, judge=self._judge)
            left_out = {site: node for site, node in outcomes.items() if node.outcome != "contributed"}
            for site, reason in contradicted(parts["consistent"]).items():
                del parts["consistent"][site]
                left_out[site] = NodeOutcome("refused", reason)
        if {"piggyback", "local"} & set(readings):
            parts["own"], missing = self._own_moments(number)
            left_out |= missing
        return parts, left_out

    def _own_moments(self, number: int) -> tuple[dict[str, Statistics], dict[str, NodeOutcome]]:
        """Return what the replies of a round told of the nodes' own networks, by site, and whose is missing."""
        parts: dict[str, Statistics] = {}
        missing: dict[str, NodeOutcome] = {}
        record = self.strategy.record
        for site in self.strategy.roster.names():
            sums = self.strategy.own_sums.get(site)
            if sums is None:
                known = record.nodes.get(site) if record.round_number == number else None
                silent = NodeOutcome("late", f"it sent no sums of its own network in round {number}")
                missing[site] = known if known and known.outcome in ("failed", "refused", "late", "absent") else silent
                continue
            moments = {key.removeprefix("own/"): value for key, value in sums.items()}
            try:
                self._judge(site, moments)
            except Refusal as error:
                missing[site] = NodeOutcome("refused", str(error))
            else:
                parts[site] = moments
        return parts, missing

    def _judge(self, site: str, moments: Statistics) -> None:
        described = self.strategy.described(site)
        counts = described.train_counts if described else None
        check_site_moments(moments, counts, None if self.task.is_pooled else self._most_images(site))

    def _most_images(self, site: str) -> float | None:
        """Return how many images a site's moments may be of: those that it trained on.

        A site that was never drawn for training may have as many as the largest one that was. None: no limit.
        """
        admission = self.strategy.admission
        known = admission.trained_on.get(site, max(admission.trained_on.values(), default=None))
        limits = [limit for limit in (known, admission.options.max_weight) if limit]
        return min(limits, default=None)

    def _judge_heads(self, site: str, sums: Statistics) -> None:
        described = self.strategy.described(site)
        counts = (described.validation_counts, described.test_counts) if described else (None, None)
        check_head_sums(sums, *counts)

    def _build(
        self, weights: Weights, parts: Mapping[str, Mapping[str, Statistics]]
    ) -> tuple[HeadSet, dict[str, dict[str, NDArray[np.float64]]], dict[str, str]]:
        """Build all heads; return them, the pooled moments, and why a head is not defined."""
        blank, options = self.task.blank_moments(), self.task.options
        held = held_classes(self.folder)
        layer = [np.asarray(weights[f"linear.{name}"], dtype=np.float64) for name in ("weight", "bias")]
        heads: dict[str, dict[str, Head]] = {"global": {"linear": linear_head(layer[0], layer[1], held)}}
        pooled: dict[str, dict[str, NDArray[np.float64]]] = {}
        undefined: dict[str, str] = {}
        for source, sites in parts.items():
            pooled[source] = dict(pool([blank, *sites.values()]))
            heads[source], reasons = build_heads(pooled[source], options.shrinkage, options.prior)
            undefined |= {
                f"{reading}/{head}": reason
                for reading in self.task.readings
                if MEASURED_WITH[reading] == source
                for head, reason in reasons.items()
            }
        used = pooled.get(MEASURED_WITH[self.task.shipped_reading], blank)
        count = used["count"]
        prototypes = used["sum"] / np.maximum(count, 1.0)[:, None]
        by = "euclid" if options.abstain_by == "euclid" else "mahalanobis"
        head_set = HeadSet(
            heads,
            prototypes,
            count > 0,
            distance_map(used, options.shrinkage, by),
            with_joint=options.choose_by == "auc",
            picture_map=picture_map(used["picture"]) if options.abstain_by == "mahalanobis-or-picture" else None,
        )
        return head_set, pooled, undefined

    def _limits(
        self, heads: HeadSet, total: Statistics, sites: Mapping[str, Statistics]
    ) -> tuple[float | None, float | None]:
        """Return how far an answered image may lie from a prototype, and its picture from others; None: no limit.

        Two tests share the held-out images that may be lost.
        """
        quantile = self.task.options.abstain_quantile
        if not heads.known.any():
            return None, None  # from no prototype every image is infinitely far

        def limit(name: str, share: float) -> float | None:
            key = f"validation/{name}"
            parts = {site: {key: sums[key]} for site, sums in sites.items()}
            return steady({key: total[key]}, parts, lambda sums: distance_quantile(sums[key], share), _STEADY_FACTOR)

        if heads.picture_map is None:
            return limit("distance", quantile), None
        each = 1.0 - (1.0 - quantile) / 2.0
        return limit("distance", each), limit("picture-distance", each)

    def _choose(self, heads: HeadSet, total: Statistics, measured: Mapping[str, Statistics]) -> dict[str, Any]:
        """Choose the head that ships: the one asked for, else the best that beats `linear`, else `linear`."""
        reading, options = self.task.shipped_reading, self.task.options
        own_layer = "local" if self.task.is_alone else "global"
        sources = {"linear": own_layer} | dict.fromkeys(heads.heads.get(MEASURED_WITH[reading], {}), reading)
        sums = {head: _part(total, "validation", source, head) for head, source in sources.items()}
        sites = {
            site: {head: _part(part, "validation", source, head) for head, source in sources.items()}
            for site, part in measured.items()
            if _part(part, "validation", own_layer, "linear")["confusion"].any()
        }
        choice = choose_head(sums, options.choose_by, options.choose_confidence, sites)
        head, why = choice.head, choice.why
        if options.head in sources:
            head, why = options.head, "option 'classification.head' names it"
        elif options.head != "auto":
            why += f"; '{options.head}', which option 'classification.head' names, is not defined"
        return {
            "reading": sources[head],
            "head": head,
            "accuracy": figures(sums[head])["accuracy"],
            "linear-accuracy": figures(sums["linear"])["accuracy"],
            "choose-by": options.choose_by,
            "differences": {name: vars(one) if one else None for name, one in choice.differences.items()},
            "why": why,
            "without-vote": choice.unvoted,
        }

    def _rows(self, scorers: list[Scorer], sums: Statistics, num_sites: int) -> list[dict[str, Any]]:
        """Finish the sums of every head on both parts.

        The scores of different networks have no common scale, so the reading `local` has no AUC over several sites.
        """
        rows = []
        for part in PARTS:
            for reading, head in scorers:
                found = _part(sums, part, reading, head)
                named = {"reading": reading, "head": head, "part": part}
                values, ranges = figures(found), intervals(found)
                if reading == "local" and num_sites > 1:
                    values["auc"] = ranges["auc"] = None
                rows.append({**named, "figures": values, "intervals": ranges})
        return rows

    def _temperatures(
        self, scorers: list[Scorer], total: Statistics, sites: Mapping[str, Statistics]
    ) -> dict[str, float]:
        """Return how sure each head may be, by the held-out images: none where nothing was measured."""
        found = {}
        for reading, head in scorers:
            parts = {site: _part(sums, "validation", reading, head) for site, sums in sites.items()}
            whole = _part(total, "validation", reading, head)
            found[f"{reading}/{head}"] = steady(whole, parts, best_temperature, _STEADY_FACTOR)
        return {name: value for name, value in found.items() if value is not None}

    def _withheld(self, pooled: Statistics | None) -> dict[str, int]:
        """Return how many sites kept a class to themselves, having too few images of it."""
        if pooled is None:
            return {}
        pairs = zip(self.task.info.class_names, pooled["withheld"], strict=True)
        return {name: int(number) for name, number in pairs if number > 0}

    def _bundle(
        self,
        weights: Weights,
        heads: HeadSet,
        pooled: dict[str, NDArray[np.float64]],
        shipped: dict[str, Any],
        result: dict[str, Any],
    ) -> None:
        options, source = self.task.options, MEASURED_WITH[self.task.shipped_reading]
        self.task.bundle = Bundle(
            network=options.network,
            embedding_size=options.embedding_size,
            info=self.task.info,
            weights=to_tensors(weights),
            pooled=pooled,
            heads=heads.heads["global"] | heads.heads.get(source, {}),
            shipped=shipped["head"],
            reading=self.task.shipped_reading,
            shrinkage=options.shrinkage,
            abstain_distance=result["abstain-distance"],
            abstain_picture_distance=result["abstain-picture-distance"],
            prior=options.prior,
            abstain_by="euclid" if heads.mapped_by is None else "mahalanobis",
            temperatures={
                name.split("/")[1]: value
                for name, value in result["temperatures"].items()
                if name.split("/")[0] in ("global", self.task.shipped_reading)
            },
            record={
                **{key: result[key] for key in ("round", "contributed", "withheld", "shipped", "results")},
                "left-out": {site: node["outcome"] for site, node in result["left-out"].items()},
            },
        )

    def _draw(self, total: Statistics, shipped: dict[str, Any]) -> None:
        """Draw the confusion matrix of the head that ships, over test images, else over those that chose it."""
        part = "test" if self._test_set(total) else "validation"
        confusion = _part(total, part, shipped["reading"], shipped["head"])["confusion"]
        title = f"{shipped['head']} ({shipped['reading']}), {_IMAGES[part]}"
        path = self.folder.task(self.task.name) / "confusion.png"
        draw_confusion(confusion, self.task.info.class_names, title, path)

    def _test_set(self, total: Statistics) -> str | None:
        """Say whose test images were measured: `common` to all nodes, the nodes' `own parts`, or None without any.

        A node's own network is measured at that node alone: on its share of common images, or on its own part.
        """
        if _part(total, "test", *_LINEAR)["confusion"].sum() == 0:
            return None
        sites = self.strategy.roster.sites.values()
        return "common" if all(site.has_common_test for site in sites) else "own parts"

    def _results(self) -> Path:
        return self.folder.task(self.task.name) / "prototypes"

    def _path(self, number: int) -> Path:
        return self._results() / f"round-{number:04d}.json"


def _left_out(result: Mapping[str, Any], path: Path) -> dict[str, NodeOutcome]:
    """Read whom an earlier exchange left out.

    Raises:
        RunFolderError: the file is damaged.
    """
    try:
        return {site: NodeOutcome(**node) for site, node in result.get("left-out", {}).items()}
    except (AttributeError, TypeError):
        raise damaged(path) from None


def _moment(result: Mapping[str, Any], seconds: float) -> str:
    return moment(f"prototypes of round {result.get('round')} of {result.get('task')}", seconds)


def _part(sums: Statistics, part: str, reading: str, head: str) -> Statistics:
    """Return the sums of one head on one part, without their prefix."""
    prefix = f"{part}/{reading}/{head}/"
    return {key.removeprefix(prefix): value for key, value in sums.items() if key.startswith(prefix)}


def _log_result(result: dict[str, Any]) -> None:
    """Say what the heads reached, and on how many images of which part."""
    part = "test" if result["test-set"] else "validation"
    rows = [row for row in result["results"] if row["part"] == part and row["figures"]["n"] > 0]
    at_home = " (each at home)" if result["test-set"] == "own parts" else ""
    found = ", ".join(
        f"{row['reading']}/{row['head']} {row['figures']['accuracy']:.3f}{at_home if row['reading'] == 'local' else ''}"
        for row in rows
    )
    num_images = max((row["figures"]["n"] for row in rows), default=0)
    shipped = result["shipped"]
    message = "%s, prototypes of round %d: accuracy on %d %s: %s. Ships: %s (%s), %s"
    head, reading, why = shipped["head"], shipped["reading"], shipped["why"]
    images = _IMAGES[part]
    log.info(message, result["task"], result["round"], num_images, images, found or "not measured", head, reading, why)
