"""The exported classifier: network, prototypes and heads in one folder, usable without a federation."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import load_file as load_weights
from safetensors.torch import save as weights_to_bytes
from torch import Tensor

from fl_app.classification import moments
from fl_app.classification.heads import HEADS, Head, build_heads, distance_map, nearest_distance
from fl_app.classification.moments import SUMS_SHAPE, blank_moments, picture_distances, picture_map, pool
from fl_app.classification.network import Classifier, build_network
from fl_app.data.images import DatasetInfo
from fl_app.errors import FlAppError, OptionError, RunFolderError, did_you_mean
from fl_app.files import check_export, write_card, write_manifest
from fl_app.options.sections import Section
from fl_app.plugins import FORM, PluginError, named_by_file


@dataclass(frozen=True)
class ClassifierModel:
    """A finished classifier.

    Attributes:
        network: name of a built-in network or a plug-in.
        embedding_size: as the option says; `resnet18` ignores it and has 512.
        info: class names, channels and size of the images.
        weights: of the network, by name.
        pooled: the sites' sums, from `moments.pool`.
        heads: the defined heads, by name.
        shipped: the default head.
        reading: whose features the sums were measured with, `consistent` or `piggyback`.
        shrinkage: of the covariances of `lda` and `fedcof`.
        abstain_distance: an image farther than this from every prototype gets no answer; None: no limit.
        record: JSON, the model's origin. `added` has an entry for each site that `joining.add_site` added. If the
            model names its sites, `contributed` lists those of the run whose sums it contains. `licence`: empty if
            not stated.
        temperatures: by head; scores are divided by it before the softmax. A missing head has 1.
        prior: of `lda`: `training` or `equal`.
        abstain_by: the distance that `abstain_distance` limits, `euclid` or `mahalanobis`.
        abstain_picture_distance: an image whose brightness, contrast and roughness are farther than this from those
            of the training images gets no answer, either; None: no limit.
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
    record: dict[str, Any]
    temperatures: dict[str, float] = field(default_factory=dict)
    prior: str = "training"
    abstain_by: str = "euclid"
    abstain_picture_distance: float | None = None

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which classes have a prototype: [K]."""
        return np.asarray(self.pooled["count"] > 0)

    @property
    def prototypes(self) -> NDArray[np.float64]:
        """Mean embedding of each class, [K, D]; NaN for a class without one, so it cannot pass for a point."""
        count = np.where(self.known, self.pooled["count"], np.nan)
        return np.asarray(self.pooled["sum"] / count[:, None])

    @property
    def names_sites(self) -> bool:
        """Whether the model names the sites whose sums are in the prototypes."""
        return "contributed" in self.record

    @property
    def sites(self) -> list[str]:
        """The sites whose sums are in the prototypes; only those that the model names."""
        added = [entry["site"] for entry in self.record.get("added", []) if "site" in entry]
        return [*self.record.get("contributed", []), *added]

    def head(self, name: str | None) -> Head:
        """Return the head of that name; for None the one that ships.

        Raises:
            OptionError: the head is unknown, or not defined in this model.
        """
        if name is None or name in self.heads:
            return self.heads[name or self.shipped]
        choice = f"Choose one of {', '.join(self.heads)}."
        if name not in HEADS:  # or a plug-in that this model does not have
            raise OptionError(f"There is no head '{name}'. {choice}{did_you_mean(name, self.heads)}")
        reason = build_heads(self.pooled, self.shrinkage, self.prior)[1].get(name, "it was not exported")
        raise OptionError(f"The head '{name}' is not defined in this model: {reason}. {choice}")

    def distances(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of embeddings [B, D] to the nearest prototype: [B]; infinite if none."""
        mapped_by = distance_map(self.pooled, self.shrinkage, self.abstain_by)
        return nearest_distance(self.prototypes, self.known, features, mapped_by)

    def abstains(self, images: Tensor, distances: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which images get no answer: [N] bool.

        Args:
            images: [N, C, H, W] uint8.
            distances: [N], of these images, from `distances`.
        """
        is_strange = np.zeros(len(images), dtype=np.bool_)
        if self.abstain_distance is not None:
            is_strange |= distances > self.abstain_distance
        if self.abstain_picture_distance is not None:
            mapped_by = picture_map(self.pooled["picture"])
            is_strange |= picture_distances(mapped_by, images) > self.abstain_picture_distance
        return is_strange

    def build_network(self) -> Classifier:
        """Return the network with its weights, in eval mode; raises PluginError if its code is not installed."""
        with named_by_file(), torch.device("meta"):  # the random initial weights would be overwritten
            network = build_network(self.info, self.network, self.embedding_size)
        network.load_state_dict(self.weights, assign=True)
        return network.eval()


class _Document(Section):
    """model.json."""

    format: Literal[1]
    network: Annotated[str, Field(pattern=f"^{FORM}$")]
    embedding_size: int = Field(ge=1)
    num_channels: Literal[1, 3]
    image_size: int = Field(ge=1)
    shipped: str
    normalised_heads: list[str]
    reading: Literal["consistent", "piggyback"]
    shrinkage: float = Field(ge=0)
    abstain_distance: float | None = Field(ge=0)
    temperatures: dict[str, Annotated[float, Field(gt=0)]]
    prior: Literal["training", "equal"] = "training"  # older versions wrote no such field
    abstain_by: Literal["euclid", "mahalanobis"] = "euclid"  # likewise
    abstain_picture_distance: float | None = Field(default=None, ge=0)  # likewise
    weights_sha256: str
    without_site_outer: tuple[str, ...] = ()  # likewise
    record: dict[str, Any]


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Return a checksum of weights, the same in every file that holds them: SHA-256, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_classifier(classifier: ClassifierModel, folder: Path) -> None:
    """Write a classifier into an existing, empty folder.

    `model.safetensors` (weights), `prototypes.safetensors` (`prototypes` [K, D] and the sums they come from),
    `heads.safetensors` (`<head>/weight` [K, D], `<head>/bias` [K]), `classes.json` (names by label), `model.json`,
    `README.md`. Of a class that one site holds, `site-outer` is zero: `without-site-outer` in `model.json` names it.

    Raises:
        OSError: a file cannot be written.
        RunFolderError: a number of the classifier is not finite.
    """
    arrays = {**classifier.pooled, **{f"head {name}": head.weight for name, head in classifier.heads.items()}}
    arrays |= {name: value.numpy(force=True) for name, value in classifier.weights.items()}
    strange = [name for name, value in arrays.items() if not np.isfinite(value).all()]
    if strange:
        raise RunFolderError(f"The classifier is not written: {strange[0]} holds a number that is not finite.")
    names, is_lone = classifier.info.class_names, classifier.pooled["num-sites"] == 1
    document = _Document.model_validate(
        {
            "format": 1,
            "network": classifier.network,
            "embedding-size": classifier.embedding_size,
            "num-channels": classifier.info.num_channels,
            "image-size": classifier.info.image_size,
            "shipped": classifier.shipped,
            "normalised-heads": [name for name, head in classifier.heads.items() if head.normalise],
            "reading": classifier.reading,
            "shrinkage": classifier.shrinkage,
            "abstain-distance": classifier.abstain_distance,
            "temperatures": classifier.temperatures,
            "prior": classifier.prior,
            "abstain-by": classifier.abstain_by,
            "abstain-picture-distance": classifier.abstain_picture_distance,
            "weights-sha256": fingerprint(classifier.weights),
            "without-site-outer": tuple(name for name, flag in zip(names, is_lone, strict=False) if flag),
            "record": classifier.record,
        }
    )
    weights = {name: value.detach().cpu().contiguous() for name, value in classifier.weights.items()}
    heads = {f"{name}/weight": head.weight for name, head in classifier.heads.items()}
    heads |= {f"{name}/bias": head.bias for name, head in classifier.heads.items()}
    (folder / "model.safetensors").write_bytes(weights_to_bytes(weights))
    (folder / "prototypes.safetensors").write_bytes(
        _to_bytes({**moments.without_lone_sites(classifier.pooled), "prototypes": classifier.prototypes})
    )
    (folder / "heads.safetensors").write_bytes(_to_bytes(heads))
    _write_json(folder / "classes.json", {str(label): name for label, name in enumerate(names)})
    _write_json(folder / "model.json", document.model_dump(by_alias=True))
    use = "`fl-app predict <this folder> images/` names the class of images."
    write_card(folder, "Classifier", use, classifier.record.get("licence", ""))
    write_manifest(folder)


def read_classifier(folder: Path) -> ClassifierModel:
    """Read a classifier.

    Raises:
        RunFolderError: the folder holds no classifier, or a damaged one.
        PluginError: its network is a plug-in that is not installed, or a path that is not trusted.
    """
    if not (folder / "model.json").is_file():
        raise RunFolderError(f"{folder} holds no classification model: it has no file model.json.")
    check_export(folder)
    try:
        document = _Document.model_validate_json((folder / "model.json").read_bytes())
        classifier = _read(folder, document)
        _check_whole(classifier, document.weights_sha256)
        return dataclasses.replace(classifier, pooled=moments.with_lone_sites(classifier.pooled))
    except PluginError:
        raise
    except (FlAppError, OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RunFolderError(
            f"The classification model in {folder} is damaged ({' '.join(str(error).split())[:200]}). "
            "Copy it again from its source."
        ) from None


def _read(folder: Path, document: _Document) -> ClassifierModel:
    classes = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    names = tuple(str(classes[str(label)]) for label in range(len(classes)))
    arrays, flat = load_arrays(folder / "prototypes.safetensors"), load_arrays(folder / "heads.safetensors")
    pooled = {"picture": np.zeros(SUMS_SHAPE), **arrays}  # older versions wrote no `picture`
    del pooled["prototypes"]
    stored = {key.removesuffix("/weight") for key in flat if key.endswith("/weight")}
    heads = {
        name: Head(flat[f"{name}/weight"], flat[f"{name}/bias"], name in document.normalised_heads)
        for name in (*(name for name in HEADS if name in stored), *sorted(stored - {*HEADS}))
    }
    return ClassifierModel(
        network=document.network,
        embedding_size=document.embedding_size,
        info=DatasetInfo(names, document.num_channels, document.image_size),
        weights=load_weights(folder / "model.safetensors"),
        pooled=pooled,
        heads=heads,
        shipped=document.shipped,
        reading=document.reading,
        shrinkage=document.shrinkage,
        abstain_distance=document.abstain_distance,
        record=document.record,
        temperatures=document.temperatures,
        prior=document.prior,
        abstain_by=document.abstain_by,
        abstain_picture_distance=document.abstain_picture_distance,
    )


def _check_whole(classifier: ClassifierModel, expected_fingerprint: str) -> None:
    """Raise an error if files that can be read do not fit together."""
    if fingerprint(classifier.weights) != expected_fingerprint:
        raise ValueError("the weights are not those that were saved")
    num_classes, size = len(classifier.info.class_names), classifier.build_network().embedding_size
    blank = pool([blank_moments(num_classes, size)])
    if {name: value.shape for name, value in classifier.pooled.items()} != {name: v.shape for name, v in blank.items()}:
        raise ValueError("the sums have other names or shapes than the network's")
    if not all(np.isfinite(value).all() for value in classifier.pooled.values()):
        raise ValueError("a sum is not finite")
    for name, head in classifier.heads.items():
        if head.weight.shape != (num_classes, size) or head.bias.shape != (num_classes,):
            raise ValueError(f"the head '{name}' has another shape than the network")
    if classifier.shipped not in classifier.heads:
        raise ValueError(f"the head '{classifier.shipped}' that ships is missing")


def _to_bytes(arrays: Mapping[str, NDArray[np.float64]]) -> bytes:
    return arrays_to_bytes({name: np.ascontiguousarray(value) for name, value in arrays.items()})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
