"""Leave one site out: how good a head is at a site whose moments it was built without.

Moments are sums, so the server subtracts a site's own ones and builds the heads anew. The site measures these on its
held-out images, beside `linear`. Both may name only the classes that at least two other sites hold, and only images of
these classes count: a head of other sites cannot know further ones, and a prototype of one other site is not sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fl_app.classification.heads import Head, affine_head, build_heads, predict
from fl_app.classification.measuring import embeddings
from fl_app.classification.moments import Moments, pool
from fl_app.classification.network import Classifier
from fl_app.data.images import ImageSet
from fl_app.errors import RejectedReply
from fl_app.files import KEBAB
from fl_app.sums import Sums, mean

Array = NDArray[np.float64]

_FEWEST_OTHERS = 2  # sites that hold a class
_KEY = "left-out/"


@dataclass(frozen=True)
class LeftOut:
    """What heads reach at sites whose moments they were built without.

    Attributes:
        images: by head, held-out images of all sites, of classes that at least two other sites hold.
        accuracy: by head; None if no image was measured.
        linear_accuracy: by head, of the network's own layer on the same images and classes.
    """

    __pydantic_config__ = KEBAB

    images: dict[str, int]
    accuracy: dict[str, float | None]
    linear_accuracy: dict[str, float | None]


def without_site(pooled: Moments, own: Moments) -> dict[str, Array]:
    """Return the pooled moments of all other sites.

    Args:
        pooled: from `moments.pool`, of all sites.
        own: one site's moments, which are in `pooled`.
    """
    one = pool([own])
    rest = {key: np.asarray(value - one[key]) for key, value in pooled.items()}
    is_held = rest["count"] > 0  # what is left of the others is rounding
    return {
        **rest,
        "sum": np.where(is_held[:, None], rest["sum"], 0.0),
        "site-outer": np.where(is_held[:, None, None], rest["site-outer"], 0.0),
    }


def heads_without(
    pooled: Moments, own: Moments | None, shrinkage: float, prior: str, further: Sequence[str] = ()
) -> dict[str, Head]:
    """Build the heads that a site's moments are not in, without classes that fewer than two other sites hold.

    The site must be one of three or more: from two it could tell the other one's moments.

    Args:
        pooled: from `moments.pool`, of all sites.
        own: the site's moments; None if none of its moments are in `pooled`.
        shrinkage: as for `build_heads`.
        prior: as for `build_heads`.
        further: as for `build_heads`.
    """
    rest = pooled if own is None else without_site(pooled, own)
    is_known = rest["num-sites"] >= _FEWEST_OTHERS
    heads, _ = build_heads(rest, shrinkage, prior, further)
    return {name: affine_head(head.weight, head.bias, is_known, head.normalise) for name, head in heads.items()}


def blank_left_out(heads: Iterable[str]) -> dict[str, Array]:
    """Return `measure_left_out`'s sums for zero images."""
    return {f"{_KEY}{head}": np.zeros(3) for head in heads}


def measure_left_out(
    heads: Mapping[str, Head],
    names: Iterable[str],
    network: Classifier,
    images: ImageSet,
    device: torch.device,
    fewest: int = 1,
) -> dict[str, Array]:
    """Count a node's held-out images of the classes that a head knows, and how many it and `linear` have right.

    Args:
        heads: by name, built without the node's moments.
        names: of the sums to return; one without a head gets zeros.
        network: the averaged one, on the device; its own layer is `linear`, here without the classes that the head
            does not know.
        images: held out.
        device: where to compute.
        fewest: the sums of a head that counts fewer images are zeros.

    Returns:
        `left-out/<head>`: [3].
    """
    sums = blank_left_out(names)
    layer = network.linear
    weight, bias = layer.weight.detach().double().cpu().numpy(), layer.bias.detach().double().cpu().numpy()
    for features, labels in embeddings(network, images, device):
        for name, head in heads.items():
            is_known = np.isfinite(head.bias)
            f, label = features[is_known[labels]], labels[is_known[labels]]
            both = (head, affine_head(weight, bias, is_known))
            right = [np.count_nonzero(predict(one.scores(f)) == label) for one in both]
            sums[f"{_KEY}{name}"] += np.array([len(label), *right])
    return {key: value if value[0] >= fewest else np.zeros(3) for key, value in sums.items()}


def check_left_out(sums: Sums, num_images: float) -> None:
    """Raise RejectedReply if counts contradict each other or the number of held-out images."""
    for key, value in sums.items():
        if key.startswith(_KEY) and not max(value[1:]) <= value[0] <= num_images:
            raise RejectedReply(f"its counts {key!r} are those of no images, or of more than it measured heads on")


def left_out_figures(total: Sums, heads: Iterable[str]) -> LeftOut:
    """Compute what heads reach at sites whose moments they lack, from the added sums of all sites."""
    counts = {head: total[f"{_KEY}{head}"] for head in heads if f"{_KEY}{head}" in total}
    return LeftOut(
        images={head: int(count[0]) for head, count in counts.items()},
        accuracy={head: mean(count[1], count[0]) for head, count in counts.items()},
        linear_accuracy={head: mean(count[2], count[0]) for head, count in counts.items()},
    )
