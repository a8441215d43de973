"""Builds heads from the sums of an exchange, chooses the one that ships, and sets its limits; pure numpy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fl_app.classification.heads import Head, build_heads, distance_map, linear_head
from fl_app.classification.measuring import MEASURED_WITH, PARTS, HeadSet, Scorer, distance_quantile
from fl_app.classification.moments import blank_moments, picture_map, pool
from fl_app.files import KEBAB
from fl_app.metrics.choosing import choose_head
from fl_app.metrics.classification import Figures, best_temperature, figures
from fl_app.metrics.further import further_figures
from fl_app.metrics.intervals import intervals
from fl_app.metrics.paired import Difference
from fl_app.sums import Sums, steady

LINEAR: Scorer = ("global", "linear")

_STEADY_FACTOR = 1.25  # a single site may not move a temperature or a limit of distances by more than this factor


@dataclass(frozen=True)
class PrototypeMethod:
    """How prototypes are exchanged, and which head ships; the options of `classification` explain each.

    Attributes:
        num_classes: K.
        embedding_size: D of the network.
        rounds: an exchange follows each of these rounds. The option always includes the last round of a run.
        readings: which networks' features the prototypes are measured and used with; see `measuring`.
        shipped_reading: the reading that the exported heads are built from.
        is_alone: nodes train alone, and only each node's own layer is measured.
        further_heads: plug-ins built in addition to the built-in heads.
        metrics: further figures that nodes measure.
    """

    num_classes: int
    embedding_size: int
    rounds: frozenset[int] = frozenset()
    readings: tuple[str, ...] = ("consistent",)
    shipped_reading: str = "consistent"
    is_alone: bool = False
    shrinkage: float = 0.1
    prior: Literal["training", "equal"] = "equal"
    head: str = "auto"
    further_heads: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    choose_by: Literal["accuracy", "balanced-accuracy", "auc"] = "balanced-accuracy"
    choose_confidence: float = 0.68
    abstain_by: Literal["euclid", "mahalanobis", "mahalanobis-or-picture"] = "mahalanobis-or-picture"
    abstain_quantile: float = 0.95

    @property
    def measured_readings(self) -> tuple[str, ...]:
        """The readings that nodes measure heads with."""
        return ("local",) if self.is_alone else self.readings

    @property
    def uses_own_networks(self) -> bool:
        """Whether any reading needs moments that nodes measure with their own networks."""
        return bool({"piggyback", "local"} & set(self.readings))

    def blank_moments(self) -> dict[str, NDArray[np.float64]]:
        """Return the moments of zero images."""
        return blank_moments(self.num_classes, self.embedding_size)


@dataclass(frozen=True)
class Built:
    """The heads of an exchange.

    Attributes:
        heads: the heads that nodes will measure.
        pooled: moments of all sites, by the network they were measured with (`consistent`, `own`).
        undefined: reason why a head is not defined, by `<reading>/<head>`.
    """

    heads: HeadSet
    pooled: dict[str, dict[str, NDArray[np.float64]]]
    undefined: dict[str, str]


@dataclass(frozen=True)
class Shipped:
    """The head that ships.

    Attributes:
        reading: whose features it is used with.
        head: its name.
        accuracy: on held-out images; None if none was measured.
        linear_accuracy: of the network's own layer on the same images.
        choose_by: the figure that decided.
        differences: of each other head from `linear`; None if not defined.
        why: the reason, as text.
    """

    __pydantic_config__ = KEBAB

    reading: str
    head: str
    accuracy: float | None
    linear_accuracy: float | None
    choose_by: str
    differences: dict[str, Difference | None]
    why: str


@dataclass(frozen=True)
class HeadRow:
    """Figures of one head on one part, with 95 % intervals; None is not defined.

    Attributes:
        reading: whose features it is used with.
        head: its name.
        part: `validation` or `test`.
        figures: see `metrics.classification.figures`.
        intervals: see `metrics.intervals.intervals`.
    """

    reading: str
    head: str
    part: str
    figures: Figures
    intervals: dict[str, tuple[float, float] | None]


@dataclass(frozen=True)
class Selection:
    """Decisions based on the held-out images of an exchange.

    Attributes:
        shipped: the head.
        temperatures: by `<reading>/<head>`; a head without held-out images has none.
        abstain_distance: an image farther than this from every prototype gets no answer; None: no limit.
        abstain_picture_distance: the same for the distance of an image's brightness, contrast and roughness.
    """

    shipped: Shipped
    temperatures: dict[str, float] = field(default_factory=dict)
    abstain_distance: float | None = None
    abstain_picture_distance: float | None = None


def build(
    method: PrototypeMethod,
    weights: Mapping[str, NDArray[np.generic]],
    held: Sequence[bool],
    parts: Mapping[str, Mapping[str, Sums]],
) -> Built:
    """Build all heads that the sites' moments allow.

    Args:
        method: of the run.
        weights: of the averaged network; its last layer is `linear`.
        held: for each class, whether any site ever held an image.
        parts: moments by the network they were measured with, then by site.
    """
    blank = method.blank_moments()
    layer = [np.asarray(weights[f"linear.{name}"], dtype=np.float64) for name in ("weight", "bias")]
    heads: dict[str, dict[str, Head]] = {"global": {"linear": linear_head(layer[0], layer[1], list(held))}}
    pooled: dict[str, dict[str, NDArray[np.float64]]] = {}
    undefined: dict[str, str] = {}
    for source, sites in parts.items():
        pooled[source] = dict(pool([blank, *sites.values()]))
        heads[source], reasons = build_heads(pooled[source], method.shrinkage, method.prior, method.further_heads)
        readings = [reading for reading in method.readings if MEASURED_WITH[reading] == source]
        undefined |= {f"{reading}/{head}": reason for reading in readings for head, reason in reasons.items()}
    used = pooled.get(MEASURED_WITH[method.shipped_reading], blank)
    head_set = HeadSet(
        heads,
        prototypes=used["sum"] / np.maximum(used["count"], 1.0)[:, None],
        known=used["count"] > 0,
        mapped_by=distance_map(used, method.shrinkage, "euclid" if method.abstain_by == "euclid" else "mahalanobis"),
        with_joint=method.choose_by == "auc",
        picture_map=picture_map(used["picture"]) if method.abstain_by == "mahalanobis-or-picture" else None,
    )
    return Built(head_set, pooled, undefined)


def select(
    method: PrototypeMethod,
    heads: HeadSet,
    scorers: Iterable[Scorer],
    total: Sums,
    sites: Mapping[str, Sums],
) -> Selection:
    """Choose the head that ships, each head's temperature, and the abstention limits, by held-out images.

    Args:
        method: of the run.
        heads: the measured heads.
        scorers: reading and head of each candidate.
        total: the sums of all sites, from `measuring.measure_heads`.
        sites: the sums by site.
    """
    distance, picture_distance = _limits(method, heads, total, sites)
    return Selection(
        _choose(method, heads, total, sites), _temperatures(scorers, total, sites), distance, picture_distance
    )


def rows(scorers: Iterable[Scorer], sums: Sums, num_sites: int) -> list[HeadRow]:
    """Compute every head's figures, with intervals, on both parts.

    The scores of different networks have no common scale, so the reading `local` has no AUC over several sites.
    """
    pairs, found = list(scorers), list[HeadRow]()
    for part in PARTS:
        for reading, head in pairs:
            of_head = part_of(sums, part, reading, head)
            values, ranges = figures(of_head) | further_figures(of_head), intervals(of_head)
            if reading == "local" and num_sites > 1:
                values["auc"] = ranges["auc"] = None
            found.append(HeadRow(reading, head, part, values, ranges))
    return found


def withheld(class_names: Sequence[str], pooled: Sums | None) -> dict[str, int]:
    """Return how many sites withheld each class because they have too few images; only classes with such a site."""
    if pooled is None:
        return {}
    pairs = zip(class_names, pooled["withheld"], strict=True)
    return {name: int(number) for name, number in pairs if number > 0}


def part_of(sums: Sums, part: str, reading: str, head: str) -> Sums:
    """Return the sums of one head on one part, without their prefix."""
    prefix = f"{part}/{reading}/{head}/"
    return {key.removeprefix(prefix): value for key, value in sums.items() if key.startswith(prefix)}


def _choose(method: PrototypeMethod, heads: HeadSet, total: Sums, measured: Mapping[str, Sums]) -> Shipped:
    """Choose the head that ships: the one asked for, else the best that beats `linear`, else `linear`."""
    own_layer = "local" if method.is_alone else "global"
    built = heads.heads.get(MEASURED_WITH[method.shipped_reading], {})
    sources = {"linear": own_layer} | dict.fromkeys(built, method.shipped_reading)
    sums = {head: part_of(total, "validation", source, head) for head, source in sources.items()}
    sites = {
        site: {head: part_of(part, "validation", source, head) for head, source in sources.items()}
        for site, part in measured.items()
        if part_of(part, "validation", own_layer, "linear")["confusion"].any()
    }
    choice = choose_head(sums, method.choose_by, method.choose_confidence, sites)
    head, why = choice.head, choice.why
    if method.head in sources:
        head, why = method.head, "option 'classification.head' names it"
    elif method.head != "auto":
        why += f"; '{method.head}', which option 'classification.head' names, is not defined"
    return Shipped(
        reading=sources[head],
        head=head,
        accuracy=figures(sums[head])["accuracy"],
        linear_accuracy=figures(sums["linear"])["accuracy"],
        choose_by=method.choose_by,
        differences=choice.differences,
        why=why,
    )


def _limits(
    method: PrototypeMethod, heads: HeadSet, total: Sums, sites: Mapping[str, Sums]
) -> tuple[float | None, float | None]:
    """Return the abstention limits of the distance from a prototype and of the picture distance; None: no limit.

    Both limits share the allowed fraction of rejected held-out images.
    """
    if not heads.known.any():
        return None, None  # without prototypes every image is infinitely far

    def limit(name: str, share: float) -> float | None:
        key = f"validation/{name}"
        parts = {site: {key: sums[key]} for site, sums in sites.items()}
        return steady({key: total[key]}, parts, lambda sums: distance_quantile(sums[key], share), _STEADY_FACTOR)

    if heads.picture_map is None:
        return limit("distance", method.abstain_quantile), None
    each = 1.0 - (1.0 - method.abstain_quantile) / 2.0
    return limit("distance", each), limit("picture-distance", each)


def _temperatures(scorers: Iterable[Scorer], total: Sums, sites: Mapping[str, Sums]) -> dict[str, float]:
    """Return each head's temperature, fitted to the held-out images."""
    found = {}
    for reading, head in scorers:
        parts = {site: part_of(sums, "validation", reading, head) for site, sums in sites.items()}
        whole = part_of(total, "validation", reading, head)
        found[f"{reading}/{head}"] = steady(whole, parts, best_temperature, _STEADY_FACTOR)
    return {name: value for name, value in found.items() if value is not None}
