"""Classes that one site holds: an exported model leaves out the second moment that would be this site's."""

import numpy as np
from numpy.typing import NDArray

from fl_app.classification.moments import Moments


def without_lone_sites(pooled: Moments) -> dict[str, NDArray[np.float64]]:
    """Return pooled moments with a `site-outer` of zeros for each class that one site holds.

    It would be one site's moment. `with_lone_sites` computes it anew, from what every prototype needs.
    """
    is_lone = pooled["num-sites"] == 1
    return {**pooled, "site-outer": np.where(is_lone[:, None, None], 0.0, pooled["site-outer"])}


def with_lone_sites(pooled: Moments) -> dict[str, NDArray[np.float64]]:
    """Return pooled moments with the `site-outer` of each class that one site holds: s s^T / n, the same bits."""
    is_lone, count = pooled["num-sites"] == 1, pooled["count"]
    scaled = pooled["sum"] / np.sqrt(np.where(count > 0, count, 1.0))[:, None]
    outer = scaled[:, :, None] * scaled[:, None, :]
    return {**pooled, "site-outer": np.where(is_lone[:, None, None], outer, pooled["site-outer"])}
