"""A head: linear discriminant analysis that assumes independent features."""

from collections.abc import Mapping

import numpy as np

from fl_app.classification.heads import Array, Head, NotDefinedError, affine_head, class_means


def build(pooled: Mapping[str, Array], shrinkage: float, prior: str) -> Head:
    """Build the head with weights P_c / s^2, [K, D]; s^2 is the variance of each feature within the classes."""
    count, means = pooled["count"], class_means(pooled)
    variance = (np.diag(pooled["outer"]) - (count[:, None] * means**2).sum(axis=0)) / count.sum()
    variance = variance + shrinkage * variance.mean()
    if variance.min() <= 0:
        raise NotDefinedError("a feature does not vary within any class")
    weight = means / variance
    return affine_head(weight, -0.5 * (weight * means).sum(axis=1), count > 0)
