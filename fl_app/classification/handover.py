"""What a hospital hands over to join a finished model: sums of embeddings in one file, numbers only."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fl_app.classification.moments import Moments, blank_moments
from fl_app.classification.pictures import are_sums_of_pictures
from fl_app.errors import DataError, OptionError

_KIND = "fl-app sums of embeddings 1"
_ADDED_LATER = {"picture"}  # files of older versions lack it
_LARGEST_ROUNDING = 1e-6  # of the sum of squares, where sums of squares are compared


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
    """Write a safetensors file; raises OSError where that is not possible."""
    arrays = {name: np.ascontiguousarray(value, dtype=np.float64) for name, value in handover.moments.items()}
    names = json.dumps(handover.class_names, ensure_ascii=False)
    path.write_bytes(save(arrays, {"kind": _KIND, "site": handover.site, "classes": names, "model": handover.model}))


def read_handover(path: Path) -> Handover:
    """Read such a file; whether its sums fit a model is for `check_moments` to say.

    Raises:
        DataError: it is no such file, or damaged.
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
            f"{path} is no whole file of sums ({type(error).__name__}). Make it with `fl-app prototypes measure`."
        ) from None


def check_moments(moments: Moments, num_classes: int, embedding_size: int) -> None:
    """Refuse what cannot be the sums of any images under a network whose embedding ends in a ReLU.

    Args:
        moments: to be judged.
        num_classes: K of the model.
        embedding_size: D of the model.

    Raises:
        OptionError: they are of another K or D, so of another model.
        DataError: a sum is missing, not finite, negative, or contradicts another one.
    """
    expected = blank_moments(num_classes, embedding_size)
    if moments.keys() | _ADDED_LATER != expected.keys():
        found = ", ".join(sorted(moments)) or "none"
        raise DataError(f"The sums must be {', '.join(expected)}; found {found}. Measure them again.")
    for name in (name for name in expected if name in moments):
        value, blank = moments[name], expected[name]
        if value.shape != blank.shape:
            raise OptionError(
                f"The sums do not fit the model: '{name}' is {list(value.shape)}, the model's {num_classes} "
                f"classes and {embedding_size} features make {list(blank.shape)}. Measure them with this very model."
            )
        if not np.isfinite(value).all():
            raise DataError(f"The sums '{name}' hold a number that is not finite: measure them again.")
        if name != "picture" and (value < 0).any():
            raise DataError(f"The sums '{name}' hold a negative number, which no image leads to: measure them again.")
    _check_counts(moments)
    if "picture" in moments and not are_sums_of_pictures(moments["picture"], float(moments["count"].sum())):
        raise DataError("The sums 'picture' are not those of as many images as were counted: measure them again.")


def _check_counts(moments: Moments) -> None:
    count, withheld = moments["count"], moments["withheld"]
    if (count != np.round(count)).any() or not np.isin(withheld, (0.0, 1.0)).all() or (count * withheld).any():
        raise DataError("The counts of images must be whole numbers, and none of a withheld class: measure again.")
    if moments["sum"][count == 0].any():
        raise DataError("The sums of a class without images must be 0: measure again.")
    if not count.any():
        raise DataError("The sums are of no image: every class is withheld or missing, so there is nothing to add.")
    squares = float(np.trace(moments["outer"]))
    of_means = float(((moments["sum"] ** 2).sum(axis=1) / np.maximum(count, 1.0)).sum())
    if of_means > squares * (1.0 + _LARGEST_ROUNDING):
        raise DataError("The sums of squares are smaller than those of the means, which no image leads to.")
