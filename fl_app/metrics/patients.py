"""Sums over patients, and how many independent images a patient's images are worth.

Images of one patient are similar, so n of them tell less than one image of each of n patients. Patient p has n_p
images, of them c_p right, and d_p = c_p minus the right ones of the linear head. Only six sums over patients leave a
site. They hold no label and no image, but sums of few patients may tell how many images each patient has and how many
are right. If patients are not known, each image counts as a patient.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

# Positions in the sums below. The sums of n, c and d follow from the confusion matrices.
PATIENTS, NN, CC, NC, DD, ND = range(6)
NUM_SUMS = 6

# Sums over fewer patients could be traced back to single ones. Then all images of the hospital count as one patient's,
# which makes intervals wider, and tells nothing that the confusion matrices do not.
FEWEST_PATIENTS = 5


def patient_sums(
    patients: NDArray[np.int64] | None,
    is_right: NDArray[np.bool_],
    linear: NDArray[np.bool_],
    fewest: int = FEWEST_PATIENTS,
) -> Array:
    """Compute the sums over the patients of a whole set of images.

    Args:
        patients: [N], equal numbers for images of one patient; None: each image is of another patient.
        is_right: [N], whether the head is right.
        linear: [N], whether the linear head is right.
        fewest: with fewer patients, all images count as one patient's; 1 if there is nothing to keep private.

    Returns:
        [6], whole numbers: the number of patients, and the sums of n_p^2, c_p^2, n_p c_p, d_p^2 and n_p d_p.
    """
    if len(is_right) == 0:
        return np.zeros(NUM_SUMS)
    unit_of = np.arange(len(is_right)) if patients is None else np.unique(patients, return_inverse=True)[1]
    if patients is not None and unit_of.max() + 1 < fewest:
        unit_of = np.zeros(len(is_right), dtype=np.int64)
    n = np.bincount(unit_of).astype(np.float64)
    c = np.bincount(unit_of, weights=is_right)
    d = c - np.bincount(unit_of, weights=linear)
    return np.array([len(n), n @ n, c @ c, n @ c, d @ d, n @ d])


def gram_matrices(sums: Array, num_images: float, num_right: float, difference: float) -> tuple[Array, Array]:
    """Return the Gram matrices of (1, n_p, c_p) and (1, n_p, d_p) over patients, [3, 3] each, positive semidefinite."""
    count, nn, cc, nc, dd, nd = sums
    right = np.array([[count, num_images, num_right], [num_images, nn, nc], [num_right, nc, cc]])
    won = np.array([[count, num_images, difference], [num_images, nn, nd], [difference, nd, dd]])
    return right, won


def design_effect(sums: Array, num_images: float, total: float, squares: float, products: int, prior: float) -> float:
    """Return the design effect of a share: its variance over that of as many independent images; at least 1.

    The share is the ratio of two sums over patients, y_p and n_p (Cochran, Sampling Techniques, 1977, 6.3 and 11.7).
    If few images differ, they tell little about how similar a patient's images are. So some images are added, in which
    all images of a patient are equal.

    Args:
        sums: from `patient_sums`.
        num_images: n, the sum of n_p.
        total: the sum of y_p.
        squares: the sum of the squares of each image's own value; equals `total` if the values are 0 and 1.
        products: `sums` holds y_p^2 at this position and n_p y_p right after it.
        prior: number of added images.
    """
    count, nn = float(sums[PATIENTS]), float(sums[NN])
    alike = nn / num_images
    if count < 2 or num_images < 2:
        return max(alike, 1.0)
    share = total / num_images
    residual = float(sums[products]) - 2.0 * share * float(sums[products + 1]) + share**2 * nn
    independent = (squares - share * total) * num_images / (num_images - 1.0)
    found = max(residual, 0.0) * count / (count - 1.0)
    return float(np.clip((found + prior * alike) / (independent + prior), 1.0, num_images))


def degrees_factor(level: float, num_images: float, num_patients: float) -> float:
    """Return how much longer an interval is if its variance is estimated from patients instead of images.

    This is the ratio of Student's quantiles (Korn and Graubard, Survey Methodology 24, 1998).
    """
    if num_patients < 2:
        return 1.0  # nothing was estimated
    quantiles = special.stdtrit(np.array([num_images, num_patients]) - 1.0, 0.5 + level / 2.0)
    return float(quantiles[1] / quantiles[0]) if quantiles[0] > 0 else 1.0
