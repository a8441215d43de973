"""How often the printed 95 % intervals hold the truth, and how wide they are beside Wilson's.

Each row draws many test sets from a distribution whose true figures are known. Rows with patients draw each patient's
own chance of a right image from a beta distribution (`alike` is the correlation of two images of one patient), and
compare the width with that of Wilson's interval for the true effective number of images.

    python -m benchmarks.interval_coverage --trials 200
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl_app.metrics.classification import figures, score_sums
from fl_app.metrics.intervals import FEWEST_PATIENTS, intervals, patient_sums, wilson
from fl_app.sums import Sums, add

Array = NDArray[np.float64]

_LEVEL = 0.95
_MANY = 200_000  # images that the true figures are measured on

# Images and the share of right ones.
_SHARES = [(50, 0.7), (50, 0.9), (50, 0.98), (150, 0.9), (150, 0.99), (600, 0.8), (600, 0.95), (600, 0.995)]
# Patients, most images of one, how alike they are, the share of right images, nodes that the patients are dealt to, and
# whether these are hospitals, which keep the sums over few patients to themselves.
_CLUSTERED = [
    (40, 5, 0.3, 0.8, 1, True),
    (40, 10, 0.5, 0.9, 1, True),
    (100, 5, 0.2, 0.95, 1, True),
    (200, 8, 0.5, 0.8, 1, True),
    (200, 8, 0.3, 0.98, 1, True),
    (10, 10, 0.3, 0.8, 3, False),
    (24, 4, 0.3, 0.8, 6, False),
    (40, 3, 0.3, 0.8, 10, False),
    (10, 10, 0.3, 0.8, 3, True),
    (40, 3, 0.3, 0.8, 10, True),
]
# Shares of the classes, images, and by how much the right class's score is raised.
_SCORED: list[tuple[tuple[float, ...], int, float]] = [
    ((0.5, 0.5), 50, 1.0),
    ((0.5, 0.5), 150, 2.0),
    ((0.27, 0.73), 78, 2.0),
    ((0.1,) * 10, 100, 3.0),
    ((0.1,) * 10, 600, 3.0),
    ((0.4, 0.2, 0.1, 0.1, 0.08, 0.06, 0.04, 0.02), 300, 3.0),
]


@dataclass(frozen=True)
class Row:
    """What was found of one figure: shares of the trials, and widths in points."""

    what: str
    figure: str
    truth: float
    covered: float
    width: float
    wilson: float | None


def rows(trials: int) -> Iterator[Row]:
    """Measure every row."""
    for number, share in _SHARES:

        def of_images(generator: np.random.Generator, number: int = number, share: float = share) -> Sums:
            return _right_and_wrong(generator.random(number) < share, None)

        yield _row(f"{number} images", share, trials, of_images, number)
    for number, largest, alike, share, num_nodes, at_hospitals in _CLUSTERED:
        sizes = np.random.default_rng(0).integers(1, largest + 1, number)
        effective = sizes.sum() / (1.0 + alike * ((sizes**2).sum() / sizes.sum() - 1.0))

        def of_patients(
            generator: np.random.Generator,
            sizes: NDArray[np.int64] = sizes,
            share: float = share,
            alike: float = alike,
            num_nodes: int = num_nodes,
            fewest: int = FEWEST_PATIENTS if at_hospitals else 1,
        ) -> Sums:
            spread = (1.0 - alike) / alike
            chances = generator.beta(share * spread, (1.0 - share) * spread, len(sizes))
            patients = np.repeat(np.arange(len(sizes)), sizes)
            is_right, node = generator.random(len(patients)) < chances[patients], patients % num_nodes
            nodes = (node == one for one in range(num_nodes))
            return add(_right_and_wrong(is_right[held], patients[held], fewest) for held in nodes)

        where = f", at {num_nodes} {'hospitals' if at_hospitals else 'simulated nodes'}" if num_nodes > 1 else ""
        what = f"{sizes.sum()} images of {number} patients, alike {alike}{where}"
        yield _row(what, share, trials, of_patients, float(effective))
    for shares, number, skill in _SCORED:
        yield from _scored_rows(shares, number, skill, trials)


def table(found: list[Row]) -> str:
    """Return the rows as a table."""
    lines = [
        "| test set | figure | true | held by | mean width | Wilson's | times Wilson's |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        beside = ["", ""] if row.wilson is None else [f"{row.wilson:.4f}", f"{row.width / row.wilson:.2f}"]
        cells = [row.what, row.figure, f"{row.truth:.3f}", f"{100.0 * row.covered:.1f} %", f"{row.width:.4f}", *beside]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(what: str, truth: float, trials: int, draw: Callable[[np.random.Generator], Sums], images: float) -> Row:
    """Measure the accuracy's interval beside Wilson's for so many independent images, at each drawn accuracy."""
    generator = np.random.default_rng(0)
    found, plain = [], []
    for _ in range(trials):
        sums = draw(generator)
        accuracy = figures(sums)["accuracy"]
        found.append(intervals(sums, _LEVEL)["accuracy"] or (0.0, 1.0))
        plain.append(wilson(accuracy, images, _LEVEL, is_plain=True))
    covered = np.mean([low <= truth <= high for low, high in found])
    widths = [float(np.mean([high - low for low, high in ends])) for ends in (found, plain)]
    return Row(what, "accuracy", truth, float(covered), *widths)


def _scored_rows(shares: tuple[float, ...], number: int, skill: float, trials: int) -> Iterator[Row]:
    generator = np.random.default_rng(0)
    truth = figures(score_sums(*_scores(generator, shares, _MANY, skill)))
    found = [intervals(score_sums(*_scores(generator, shares, number, skill)), _LEVEL) for _ in range(trials)]
    for name in ("balanced-accuracy", "auc", "macro-f1"):
        ends = [one[name] or (0.0, 1.0) for one in found]
        covered = np.mean([low <= truth[name] <= high for low, high in ends])
        width = float(np.mean([high - low for low, high in ends]))
        what = f"{number} images, {len(shares)} classes of {100 * min(shares):g} to {100 * max(shares):g} %"
        yield Row(what, name, truth[name], float(covered), width, None)


def _right_and_wrong(
    is_right: NDArray[np.bool_], patients: NDArray[np.int64] | None, fewest: int = FEWEST_PATIENTS
) -> Sums:
    """Return the sums of images of one class of two, of which so many are named right."""
    scores = np.stack([is_right, ~is_right], axis=1).astype(np.float64)
    sums = score_sums(scores, np.zeros(len(is_right), dtype=np.int64))
    return sums | {"patients": patient_sums(patients, is_right, is_right, fewest)}


def _scores(
    generator: np.random.Generator, shares: tuple[float, ...], number: int, skill: float
) -> tuple[Array, NDArray[np.int64]]:
    labels = generator.choice(len(shares), number, p=shares)
    scores = generator.standard_normal((number, len(shares)))
    scores[np.arange(number), labels] += skill
    return 2.0 * scores, labels


def main() -> None:
    """Read the arguments and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--trials", type=int, default=200, help="test sets a row")
    print(table(list(rows(arguments.parse_args().trials))))


if __name__ == "__main__":
    main()
