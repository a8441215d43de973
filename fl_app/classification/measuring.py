"""Measures heads for each reading: which network's features prototypes are built from, and which they are used with.

Three readings of Qiao et al. (2023), whose abstract leaves open which one is meant:

| reading      | prototypes measured with | used with              |
|--------------|--------------------------|------------------------|
| `consistent` | the averaged network     | the averaged network   |
| `piggyback`  | each node's own network  | the averaged network   |
| `local`      | each node's own network  | that node's own network |

The fourth, `global`, is the averaged network's own linear layer: plain federated averaging.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fl_app.classification.heads import Head, from_arrays, linear_head, nearest_distance, predict, to_arrays
from fl_app.classification.moments import picture_distances
from fl_app.classification.network import Classifier, embed
from fl_app.data.images import ImageSet
from fl_app.data.loading import iterate
from fl_app.metrics.classification import blank_scores, score_sums
from fl_app.metrics.further import blank_further, further_sums
from fl_app.metrics.intervals import FEWEST_PATIENTS, NUM_SUMS, patient_sums
from fl_app.metrics.paired import NUM_BINS, joint_bins, paired_counts

Arrays = dict[str, NDArray[np.generic]]
Scorer = tuple[str, str]  # reading and head

PARTS = ("validation", "test")
MEASURED_WITH = {"global": "global", "consistent": "consistent", "piggyback": "own", "local": "own"}
DISTANCE_EDGES = np.geomspace(1e-3, 1e5, 401)  # steps of 5 %

_BATCH_SIZE = 256


@dataclass(frozen=True)
class HeadSet:
    """All heads of an exchange.

    Attributes:
        heads: by source, then by name. `consistent` and `own` are built from prototypes; `global` is the averaged
            network's own layer.
        prototypes: [K, D] float64, of the reading that ships.
        known: [K] bool, the classes that have a prototype.
        mapped_by: [D, D] float64, from `heads.distance_map`; None: distances are Euclidean.
        with_joint: whether the covariances of AUCs are measured, for `classification.choose-by = "auc"`.
        picture_map: [4, 3] float64, from `moments.picture_map`; None: pictures are not tested.
    """

    heads: dict[str, dict[str, Head]]
    prototypes: NDArray[np.float64]
    known: NDArray[np.bool_]
    mapped_by: NDArray[np.float64] | None = None
    with_joint: bool = False
    picture_map: NDArray[np.float64] | None = None

    def to_arrays(self) -> Arrays:
        """Return flat arrays, for a message."""
        arrays: Arrays = {"prototypes": self.prototypes, "known": self.known, "with-joint": np.array(self.with_joint)}
        if self.mapped_by is not None:
            arrays["mapped-by"] = self.mapped_by
        if self.picture_map is not None:
            arrays["picture-map"] = self.picture_map
        named = {f"{source}/{name}": head for source, heads in self.heads.items() for name, head in heads.items()}
        return arrays | to_arrays(named)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "HeadSet":
        """Restore from the arrays that `to_arrays` returned."""
        heads: dict[str, dict[str, Head]] = {}
        for key, head in from_arrays(arrays).items():
            source, name = key.split("/")
            heads.setdefault(source, {})[name] = head
        mapped_by, picture_map = (
            arrays[key].astype(np.float64) if key in arrays else None for key in ("mapped-by", "picture-map")
        )
        prototypes, known = arrays["prototypes"].astype(np.float64), arrays["known"].astype(np.bool_)
        return cls(heads, prototypes, known, mapped_by, bool(arrays["with-joint"]), picture_map)

    def scorers(self, readings: Sequence[str]) -> list[Scorer]:
        """Return each measured (reading, head), including each node's own layer for the reading `local`."""
        names = [("global", "linear")] if "global" in self.heads else []
        for reading in readings:
            names += [("local", "linear")] if reading == "local" else []
            names += [(reading, head) for head in self.heads.get(MEASURED_WITH[reading], {})]
        return names


def linear_of(reading: str) -> Scorer:
    """Return the linear head on the same network, with which a reading's heads are compared image by image."""
    return ("local" if reading == "local" else "global", "linear")


def blank_head_sums(
    scorers: Sequence[Scorer], num_classes: int, with_joint: bool = False, metrics: Sequence[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """Return `measure_heads`' sums for zero images: same keys and shapes, all zeros."""
    sums = {f"validation/{name}": np.zeros(len(DISTANCE_EDGES) + 1) for name in ("distance", "picture-distance")}
    for part in PARTS:
        for reading, head in scorers:
            prefix = f"{part}/{reading}/{head}/"
            scores = blank_scores(num_classes) | blank_further(metrics, num_classes)
            sums |= {prefix + key: value for key, value in scores.items()}
            sums |= {prefix + "paired": np.zeros((num_classes, 2)), prefix + "patients": np.zeros(NUM_SUMS)}
            if _has_joint(with_joint, part, reading, head):
                sums[prefix + "joint"] = np.zeros((num_classes, 2, NUM_BINS, NUM_BINS))
    return sums


def measure_heads(
    averaged: Classifier,
    own: Classifier | None,
    heads: HeadSet,
    readings: Sequence[str],
    images: Mapping[str, ImageSet],
    device: torch.device,
    fewest_patients: int = FEWEST_PATIENTS,
    metrics: Sequence[str] = (),
) -> dict[str, NDArray[np.float64]]:
    """Measure every head on a node's images.

    Args:
        averaged: the global network, on the device.
        own: the node's own last network; None if it never trained: the reading `local` then gets sums of 0.
        heads: the heads that the server built, `global` included.
        readings: of the run.
        images: by part, `validation` and `test`; either may be empty.
        device: where to compute.
        fewest_patients: see `metrics.intervals.patient_sums`.
        metrics: names of further metrics: see `metrics.further`.

    Returns:
        Additive sums `<part>/<reading>/<head>/<sum>`: those of `score_sums` and further metrics; `paired` and, if
        the heads ask for it, `joint`, against the linear head on the same network (see `metrics.paired`); `patients`
        (`metrics.intervals`). Also counts of held-out images between DISTANCE_EDGES: `validation/distance`, by distance
        from the nearest prototype in the averaged network's features, and `validation/picture-distance`, by
        `moments.picture_distances` from the training images.
    """
    total = blank_head_sums(heads.scorers(readings), len(heads.known), heads.with_joint, metrics)
    for part, chosen in images.items():
        for whose, network in (("averaged", averaged), ("own", own)):
            scorers = [pair for pair in heads.scorers(readings) if (pair[0] == "local") == (whose == "own")]
            if network is None or not scorers:
                continue
            right: dict[Scorer, list[NDArray[np.bool_]]] = {pair: [] for pair in scorers}
            for features, labels in embeddings(network, chosen, device):
                scores = {pair: _head(heads, *pair, network).scores(features) for pair in scorers}
                for pair, found in scores.items():
                    right[pair].append(predict(found) == labels)
                    of_head = _batch_sums(heads, part, pair, scores, labels) | further_sums(metrics, found, labels)
                    for key, value in of_head.items():
                        total[f"{part}/{'/'.join(pair)}/{key}"] += value
                if whose == "averaged" and part == "validation":
                    distances = nearest_distance(heads.prototypes, heads.known, features, heads.mapped_by)
                    total["validation/distance"] += _distance_counts(distances)
            if whose == "averaged" and part == "validation":
                distances = picture_distances(heads.picture_map, chosen.images)
                total["validation/picture-distance"] += _distance_counts(distances)
            patients = None if chosen.patients is None else chosen.patients.cpu().numpy()
            flags = {pair: np.concatenate([np.zeros(0, dtype=np.bool_), *parts]) for pair, parts in right.items()}
            for pair, is_right in flags.items():
                sums = patient_sums(patients, is_right, flags[linear_of(pair[0])], fewest_patients)
                total[f"{part}/{'/'.join(pair)}/patients"] += sums
    return total


def embeddings(
    network: Classifier, images: ImageSet, device: torch.device
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Yield the embeddings [B, D] and labels [B] of images, batch by batch, in eval mode."""
    network.eval()
    with torch.no_grad():
        for batch in iterate(images, _BATCH_SIZE, device):
            yield embed(network, batch.images), batch.labels.cpu().numpy()


def distance_quantile(counts: NDArray[np.float64], quantile: float) -> float | None:
    """Return the smallest edge within which that share of the images lies; None if there are no images."""
    total = counts.sum()
    if total == 0:
        return None
    index = int(np.searchsorted(np.cumsum(counts), quantile * total - 1e-9))
    return float(DISTANCE_EDGES[min(index, len(DISTANCE_EDGES) - 1)])


def _head(heads: HeadSet, reading: str, name: str, network: Classifier) -> Head:
    if (reading, name) == ("local", "linear"):
        held = [bool(flag) for flag in np.isfinite(heads.heads["global"]["linear"].bias)]
        layer = network.linear
        weight, bias = layer.weight.detach().double().cpu().numpy(), layer.bias.detach().double().cpu().numpy()
        return linear_head(weight, bias, held)
    return heads.heads[MEASURED_WITH[reading]][name]


def _batch_sums(
    heads: HeadSet, part: str, pair: Scorer, scores: Mapping[Scorer, NDArray[np.float64]], labels: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return the sums of one head on one batch, without those over patients."""
    found, linear = scores[pair], scores[linear_of(pair[0])]
    sums = score_sums(found, labels)
    sums["paired"] = paired_counts(predict(found) == labels, predict(linear) == labels, labels, len(heads.known))
    if _has_joint(heads.with_joint, part, *pair):
        sums["joint"] = joint_bins(found, linear, labels)
    return sums


def _has_joint(with_joint: bool, part: str, reading: str, head: str) -> bool:
    """Return whether a head may ship instead of the linear one, by its AUC on these images."""
    return with_joint and part == "validation" and reading != "local" and head != "linear"


def _distance_counts(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(np.searchsorted(DISTANCE_EDGES, distances), minlength=len(DISTANCE_EDGES) + 1).astype(float)
