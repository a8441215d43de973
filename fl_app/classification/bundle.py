"""The exported classifier: weights, prototypes and heads in one folder, opened without a federation around it."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from torch import Tensor

from fl_app.classification.heads import Head, build_heads, nearest_distance, predict, prototypes
from fl_app.classification.moments import Moments, blank_moments, pool
from fl_app.classification.network import Classifier, build_network
from fl_app.data.images import DatasetInfo
from fl_app.data.loading import to_float
from fl_app.errors import DataError, OptionError, RunFolderError

_BATCH_SIZE = 256
_VALUES = ("network", "embedding_size", "shipped", "reading", "shrinkage", "abstain_distance", "record")


@dataclass(frozen=True)
class Bundle:
    """A finished classifier.

    Attributes:
        network: `cnn` or `resnet18`.
        embedding_size: D of the option; `resnet18` has its own.
        info: class names, channels and size of the images.
        weights: of the averaged network.
        pooled: sums of the moments over all sites, from `moments.pool`.
        heads: by name.
        shipped: the head that is used unless another one is named.
        reading: whose features the moments were measured with, `consistent` or `piggyback`.
        shrinkage: of the covariances in `lda` and `fedcof`.
        abstain_distance: images farther from every prototype get no answer; None: all get one.
        record: how it came about: round, figures, sites; JSON.
    """

    network: str
    embedding_size: int
    info: DatasetInfo
    weights: dict[str, Tensor]
    pooled: dict[str, NDArray[np.float64]]
    heads: dict[str, Head]
    shipped: str
    reading: str
    shrinkage: float
    abstain_distance: float | None
    record: dict[str, Any] = field(default_factory=dict)

    def build_network(self) -> Classifier:
        """Return the network with its weights, in eval mode."""
        network = build_network(self.info, cast(Literal["cnn", "resnet18"], self.network), self.embedding_size)
        network.load_state_dict(self.weights)
        return network.eval()

    def head(self, name: str | None) -> Head:
        """Return the head of that name, or the one that ships; raises OptionError for an unknown one."""
        wanted = name or self.shipped
        if wanted not in self.heads:
            raise OptionError(f"The model has no head '{wanted}': choose one of {', '.join(sorted(self.heads))}.")
        return self.heads[wanted]

    @property
    def known(self) -> NDArray[np.bool_]:
        """The classes that have a prototype: [K]."""
        return np.asarray(self.pooled["count"] > 0)


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of N images.

    Attributes:
        labels: [N] int64.
        probabilities: [N, K] float64, softmax of the head's scores.
        distances: [N] float64, to the nearest prototype, in the embedding; nan where there is no prototype.
        abstain: [N] bool, too far from every prototype for an answer to be trusted.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    distances: NDArray[np.float64]
    abstain: NDArray[np.bool_]


def save_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a classifier into an empty folder: three safetensors files, `classes.json` and `model.json`."""
    save_file({key: value.contiguous() for key, value in bundle.weights.items()}, folder / "model.safetensors")
    means = {"prototypes": prototypes(bundle.pooled), "known": bundle.known}
    save_arrays(_whole({**means, **bundle.pooled}), folder / "prototypes.safetensors")
    heads: dict[str, NDArray[np.generic]] = {}
    for name, head in bundle.heads.items():
        heads |= {f"{name}/weight": head.weight, f"{name}/bias": head.bias}
    save_arrays(_whole(heads), folder / "heads.safetensors")
    classes = {str(number): name for number, name in enumerate(bundle.info.class_names)}
    _write_json(folder / "classes.json", classes)
    values: dict[str, Any] = {name: getattr(bundle, name) for name in _VALUES}
    values["normalised-heads"] = sorted(name for name, head in bundle.heads.items() if head.normalise)
    values |= {"num_channels": bundle.info.num_channels, "image_size": bundle.info.image_size}
    _write_json(folder / "model.json", values)


def open_bundle(folder: Path) -> Bundle:
    """Read a classifier.

    Raises:
        RunFolderError: the folder holds none, or a damaged one.
    """
    if not (folder / "model.json").is_file():
        raise RunFolderError(f"{folder} holds no classifier: give the folder of a finished run with that task.")
    try:
        values = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        classes = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
        arrays, flat = load_arrays(folder / "prototypes.safetensors"), load_arrays(folder / "heads.safetensors")
        names = sorted(key.removesuffix("/weight") for key in flat if key.endswith("/weight"))
        info = DatasetInfo(
            tuple(str(classes[str(number)]) for number in range(len(classes))),
            int(values["num_channels"]),
            int(values["image_size"]),
        )
        bundle = Bundle(
            info=info,
            weights=load_file(folder / "model.safetensors"),
            pooled={key: value for key, value in arrays.items() if key not in ("prototypes", "known")},
            heads={
                name: Head(flat[f"{name}/weight"], flat[f"{name}/bias"], name in values["normalised-heads"])
                for name in names
            },
            **{name: values[name] for name in _VALUES},
        )
        bundle.build_network()
        return bundle
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RunFolderError(f"The classifier in {folder} is damaged ({type(error).__name__}).") from None


def classify(bundle: Bundle, images: Tensor, head: str | None, device: torch.device) -> Predictions:
    """Classify images.

    Args:
        bundle: the classifier.
        images: [N, C, H, W] uint8, of its channels and size.
        head: one of its heads; None: the one that ships.
        device: where to compute.

    Raises:
        OptionError: it has no such head.
    """
    chosen = bundle.head(head)
    network = bundle.build_network().to(device)
    with torch.no_grad():
        parts = [network.embed(to_float(part.to(device))).double().cpu() for part in images.split(_BATCH_SIZE)]
    features = torch.cat(parts).numpy()
    scores = chosen.scores(features)
    distances = np.full(len(features), np.nan)
    if bundle.known.any():
        distances = nearest_distance(prototypes(bundle.pooled), bundle.known, features)
    limit = bundle.abstain_distance
    abstain = distances > limit if limit is not None else np.zeros(len(features), dtype=np.bool_)
    return Predictions(predict(scores), np.asarray(softmax(scores, axis=1)), distances, abstain)


def add_site(bundle: Bundle, site: str, moments: Moments) -> Bundle:
    """Add a new site's moments to a finished classifier; its network stays as it is.

    Where the network's own layer ships and a class has become known that nobody held, a prototype head takes its place,
    since that layer cannot name the class.

    Args:
        bundle: the classifier.
        site: the new site's name.
        moments: measured with this classifier's network, see `moments.measure_moments`.

    Raises:
        OptionError: the site was in the federation, or was added before.
        DataError: the moments are not of this network and these classes, or no sums over images.
    """
    known_sites = [*bundle.record.get("contributed", []), *bundle.record.get("added", [])]
    if site in known_sites:
        raise OptionError(f"Site '{site}' is in this model already: its images would count twice.")
    _check_moments(bundle, moments)
    pooled = {key: bundle.pooled[key] + value for key, value in pool([moments]).items()}
    built, _ = build_heads(pooled, bundle.shrinkage)
    heads = {**{name: head for name, head in bundle.heads.items() if name == "linear"}, **built}
    record = {**bundle.record, "added": [*bundle.record.get("added", []), site]}
    shipped = bundle.shipped
    new_classes = (pooled["count"] > 0) & ~np.isfinite(bundle.head(None).bias)
    if shipped not in heads or (shipped == "linear" and new_classes.any()):
        shipped = "lda" if "lda" in heads else "nearest-mean"
        why = f"{bundle.shipped} cannot name the classes that {site} brought"
        record["shipped"] = {"head": shipped, "reading": bundle.reading, "why": why}
    return dataclasses.replace(bundle, pooled=pooled, heads=heads, shipped=shipped, record=record)


def _check_moments(bundle: Bundle, moments: Moments) -> None:
    expected = blank_moments(len(bundle.info.class_names), bundle.build_network().embedding_size)
    for name, value in expected.items():
        found = moments.get(name)
        if found is None or found.shape != value.shape:
            shape = "nothing" if found is None else list(found.shape)
            raise DataError(
                f"The moments do not fit the model: '{name}' is {shape}, expected {list(value.shape)}. "
                "Measure them with this very model."
            )
        if not np.isfinite(found).all():
            raise DataError(f"The moments hold a number in '{name}' that is not finite: measure them again.")
    count = moments["count"]
    if (count < 0).any() or (count != np.round(count)).any() or (np.diagonal(moments["outer"]) < 0).any():
        raise DataError("The moments are no sums over images: counts must be whole numbers, squares at least 0.")


def _whole(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    return {key: np.ascontiguousarray(value) for key, value in arrays.items()}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
