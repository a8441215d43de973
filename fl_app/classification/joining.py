"""Adds a new site to a finished model without training: reads and writes its sums, and rebuilds the heads."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fl_app.classification.heads import HEADS, Head, build_heads
from fl_app.classification.judging import check_moments
from fl_app.classification.model import ClassifierModel
from fl_app.classification.moments import Moments, pool
from fl_app.errors import DataError, OptionError
from fl_app.plugins import named_by_file

_KIND = "fl-app sums of embeddings 1"
_NEW_CLASS_HEADS = ("lda", "nearest-mean")  # tried in this order if the network's own layer lacks a class


@dataclass(frozen=True)
class Handover:
    """The sums of one site.

    Attributes:
        site: its name.
        class_names: K names, in the order of the labels.
        model: fingerprint of the weights that embedded the images.
        moments: from `moments.measure_moments`.
    """

    site: str
    class_names: tuple[str, ...]
    model: str
    moments: Moments


def write_handover(handover: Handover, path: Path) -> None:
    """Write a safetensors file; raises OSError."""
    arrays = {name: np.ascontiguousarray(value, dtype=np.float64) for name, value in handover.moments.items()}
    names = json.dumps(handover.class_names, ensure_ascii=False)
    path.write_bytes(save(arrays, {"kind": _KIND, "site": handover.site, "classes": names, "model": handover.model}))


def read_handover(path: Path) -> Handover:
    """Read such a file; `check_moments` checks whether its sums fit a model.

    Raises:
        DataError: the file is of another kind, or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            moments = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        if about.get("kind") != _KIND:
            raise ValueError("another kind of file")
        names = tuple(str(name) for name in json.loads(about["classes"]))
        return Handover(about["site"], names, about["model"], moments)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(
            f"{path} is not a complete file of sums ({type(error).__name__}). Make it with `fl-app prototypes measure`."
        ) from None


def add_site(
    classifier: ClassifierModel, site: str, moments: Moments, known_sites: Iterable[str] = ()
) -> ClassifierModel:
    """Add a new site's sums to a finished classifier; its network does not change.

    The network's own layer cannot predict a class that no site of the run held. If that layer ships and such a class
    is added, a prototype head ships instead, and the record gives the reason.

    Args:
        classifier: that the site joins.
        site: the new site's name.
        moments: `moments.measure_moments` of this classifier's network.
        known_sites: sites whose sums the model contains, besides those that it names.

    Raises:
        OptionError: the site or its very sums are in the model already, the sums are of another model, or one of its
            heads is a plug-in that is not installed.
        DataError: no set of images could have produced the sums.
    """
    if site in (*classifier.sites, *known_sites):
        raise OptionError(f"Site '{site}' is in this model already, and its images must not be counted twice.")
    check_moments(moments, *classifier.pooled["sum"].shape)
    digest = _digest(moments)
    entries = classifier.record.get("added", [])
    if any(entry.get("sums-sha256") == digest for entry in entries):
        raise OptionError("These very sums are in this model already, and images must not be counted twice.")
    added = pool([moments])
    pooled = {name: np.asarray(value + added[name]) for name, value in classifier.pooled.items()}
    heads = {name: head for name, head in classifier.heads.items() if name == "linear"}
    with named_by_file():
        further = [name for name in classifier.heads if name not in HEADS]
        heads |= build_heads(pooled, classifier.shrinkage, classifier.prior, further)[0]
    shipped, why = _choose_head(classifier, heads, pooled["count"] > 0)
    names = classifier.info.class_names
    entry = {
        **({"site": site} if classifier.names_sites else {}),
        "sums-sha256": digest,
        "images": {name: int(n) for name, n in zip(names, moments["count"], strict=True) if n > 0},
        "withheld": [name for name, flag in zip(names, moments["withheld"], strict=True) if flag],
        "new-classes": [
            name for name, n, known in zip(names, pooled["count"], classifier.known, strict=True) if n > 0 and not known
        ],
        "shipped": shipped,
        "why": why,
    }
    record = {**classifier.record, "added": [*entries, entry]}
    return dataclasses.replace(classifier, pooled=pooled, heads=heads, shipped=shipped, record=record)


def _digest(moments: Moments) -> str:
    """Return the SHA-256 of sums, hexadecimal, which tells equal sums but no site."""
    digest = hashlib.sha256()
    for name in sorted(moments):
        digest.update(name.encode() + np.ascontiguousarray(moments[name], dtype=np.float64).tobytes())
    return digest.hexdigest()


def _choose_head(classifier: ClassifierModel, heads: Mapping[str, Head], known: NDArray[np.bool_]) -> tuple[str, str]:
    """Return the head that ships after an addition, and why."""
    unnamed = known & np.isneginf(classifier.head(None).bias)
    if classifier.shipped in heads and not (classifier.shipped == "linear" and unnamed.any()):
        return classifier.shipped, "as before"
    chosen = next((name for name in _NEW_CLASS_HEADS if name in heads), "linear")
    if classifier.shipped not in heads:
        return chosen, f"with the new sums {classifier.shipped} is not defined"
    names = ", ".join(name for name, flag in zip(classifier.info.class_names, unnamed, strict=True) if flag)
    return chosen, f"linear cannot name {names}, of which no site of the run held an image"
