"""Simulates audits of several sites, without any training: how often does the gate stop a model, rightly or not?

Membership: scores are normal, those of the two kinds of an image correlate by 0.8, and sites differ in how hard their
images are. Copies: numbers of near copies are binomial, in each space by itself. Sites hold out 15 to 150 images and
train on nine times as many, at most 500. Nothing but these numbers is random, so an `exceeded` about images that the
model does not know is a false alarm.

    python -m benchmarks.alarms
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from fl_app.metrics.audited import Copies, Membership
from fl_app.metrics.copies import judge_copies
from fl_app.metrics.membership import HELD_OUT, SCORES, TRAIN, blank_histograms, histogram, judge_membership
from fl_app.metrics.nearest import DRAWN, SPACES, blank_copies
from fl_app.seeding import numpy_generator_for

LIMIT = 0.65
NUM_SITES = (3, 5, 10)
HELD_OUT_IMAGES = (15, 150)
FEW = (2, 15)
AUCS = (0.5, 0.6, LIMIT)
ALIKE = 0.8  # correlation of the two scores of an image
NUM_DRAWN = 200
LOOK_ALIKES = (0.05, 0.2, 0.5)  # a site's share of near copies among real images is any one up to this
NATURAL = {"pixels": 0.007, "unet": 0.038}  # among real digits (docs/results.md)
SHARES = (0.0, 0.1, 0.2, 0.4, 0.6)

Generator = np.random.Generator
Sums = dict[str, NDArray[np.float64]]
Verdict = Membership | Copies


def scored_site(generator: Generator, num_train: int, num_held_out: int, auc: float) -> Sums:
    """Return the counts of a site at which the model has this AUC by both scores."""
    hardness, gap = generator.normal(0.0, 1.0), float(np.sqrt(2.0) * ndtri(auc))
    sums = blank_histograms()
    for part, number, shift in ((TRAIN, num_train, -gap), (HELD_OUT, num_held_out, 0.0)):
        shared = generator.normal(size=number)
        for score in SCORES:
            own = np.sqrt(ALIKE) * shared + np.sqrt(1.0 - ALIKE) * generator.normal(size=number)
            sums[f"{score}/{part}"] = histogram(np.exp(hardness - 3.0 + 0.5 * (own + shift)))
    return sums


def searched_site(generator: Generator, num_held_out: int, found: dict[str, tuple[float, float]]) -> Sums:
    """Return the counts of copies of a site; `found`: share of near copies, generated and held-out, by space."""
    sums = blank_copies() | {DRAWN: np.full(2, float(NUM_DRAWN))}
    for space, (generated, held_out) in found.items():
        copies, repeated = generator.binomial(NUM_DRAWN, generated), generator.binomial(num_held_out, held_out)
        sums[f"copies/{space}/counts"] = np.array([NUM_DRAWN, copies, num_held_out, repeated], dtype=np.float64)
    return sums


def sizes(generator: Generator, number: int, bounds: tuple[int, int] = HELD_OUT_IMAGES) -> list[tuple[int, int]]:
    """Return numbers of training and held-out images of sites."""
    held_out = generator.integers(bounds[0], bounds[1] + 1, number)
    return [(min(9 * int(one), 500), int(one)) for one in held_out]


def named(parts: Sequence[Sums]) -> dict[str, Sums]:
    """Return the sums by the names of sites."""
    return {f"site-{place}": sums for place, sums in enumerate(parts)}


def equal_sites(auc: float, number: int, bounds: tuple[int, int] = HELD_OUT_IMAGES) -> Callable[[Generator], Verdict]:
    """Return an audit of sites at which the model has one AUC."""
    return lambda generator: judge_membership(
        named([scored_site(generator, *one, auc) for one in sizes(generator, number, bounds)]), LIMIT
    )


def sites_of(*given: tuple[int, int, float]) -> Callable[[Generator], Verdict]:
    """Return an audit of sites; of each: numbers of training and held-out images, AUC."""
    return lambda generator: judge_membership(named([scored_site(generator, *one) for one in given]), LIMIT)


def look_alikes(most: float, number: int) -> Callable[[Generator], Verdict]:
    """Return a search in which generated images are near copies as often as held-out ones."""

    def judge(generator: Generator) -> Verdict:
        parts = []
        for _, held_out in sizes(generator, number):
            shares = generator.uniform(0.0, most, len(SPACES))
            found = {space: (share, share) for space, share in zip(SPACES, shares, strict=True)}
            parts.append(searched_site(generator, held_out, found))
        return judge_copies(named(parts))

    return judge


def copied(share: float, number: int, held_out: int) -> Callable[[Generator], Verdict]:
    """Return a search in a model of which a share of the images are training images of any one site."""
    found = {space: (share / number + (1.0 - share) * one, one) for space, one in NATURAL.items()}
    return lambda generator: judge_copies(named([searched_site(generator, held_out, found) for _ in range(number)]))


def copied_of_one(share: float, number: int, held_out: int) -> Callable[[Generator], Verdict]:
    """Return a search in a model of which a share of the images are training images of one site."""
    none = {space: (one, one) for space, one in NATURAL.items()}
    own = {space: (share + (1.0 - share) * one, one) for space, one in NATURAL.items()}
    return lambda generator: judge_copies(
        named([searched_site(generator, held_out, own if place == 0 else none) for place in range(number)])
    )


def report(name: str, judge: Callable[[Generator], Verdict], audits: int) -> None:
    """Print how often each verdict comes out, and how often an alarm rests on one site."""
    generator, started = numpy_generator_for(0, "alarms", name), time.process_time()
    found = [judge(generator) for _ in range(audits)]
    counts = Counter(one.verdict for one in found)
    alone = sum(one.verdict == "exceeded" and " alone: either" in one.reason for one in found)
    shown = ", ".join(f"{kind} {counts[kind]}" for kind in ("exceeded", "undecided", "passed"))
    took = time.process_time() - started
    print(f"{name}: {shown} of {audits}; {alone} alarms rest on one site; {took:.0f} s", flush=True)


def main() -> None:
    """Print a line for each kind of audit."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--audits", type=int, default=2000)
    audits = arguments.parse_args().audits
    for number in NUM_SITES:
        for auc in AUCS:
            report(f"membership, {number} sites, true AUC {auc:g}", equal_sites(auc, number), audits)
        report(f"membership, {number} sites of 2 to 15 held-out images, 0.5", equal_sites(0.5, number, FEW), audits)
        for most in LOOK_ALIKES:
            report(f"copies, {number} sites, look-alikes up to {most:.0%}", look_alikes(most, number), audits)
    tenth = audits // 10
    rest = ((200, 67, 0.5), (200, 67, 0.5))
    report("one of three sites known, 500 of 900 images", sites_of((500, 167, 0.999), *rest), tenth)
    report("one of ten sites known, of 90 and 10 images", sites_of((90, 10, 0.999), *[(90, 10, 0.5)] * 9), tenth)
    report("one of ten sites, AUC 0.8, of 450 and 50 images", sites_of((450, 50, 0.8), *[(450, 50, 0.5)] * 9), tenth)
    report("two of three known, one of 500 and 500 lies", sites_of(*[(200, 67, 0.999)] * 2, (500, 500, 0.001)), tenth)
    for share in SHARES:
        report(f"copies, 10 sites of 10 held-out images, {share:.0%}", copied(share, 10, 10), tenth)
        report(f"copies of one of 10 sites of 10 held-out images, {share:.0%}", copied_of_one(share, 10, 10), tenth)


if __name__ == "__main__":
    main()
