"""What every rule and every head reaches in every setting, seed by seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.heads.choosing import RULES, Array, Judged, Rule, choose, heads_under, judge
from experiments.heads.embedded import Embedded, is_finished, read_cell
from experiments.heads.plan import DRAWS, FEW, MEASURES, PRIORS, SETTINGS, Cell, Measure, Prior, Setting, all_cells
from fl_app.classification.heads import HEADS
from fl_app.data.partition import stratified_choice
from fl_app.seeding import numpy_generator_for

Figures = dict[Measure, float]
Candidate = tuple[str, Prior]  # a head, and the prior of `lda`

CANDIDATES: tuple[Candidate, ...] = (*((head, PRIORS[0]) for head in HEADS), ("lda", PRIORS[1]))


@dataclass(frozen=True)
class Reached:
    """Figures on test images, means over the draws of one seed, shares.

    Attributes:
        heads: by candidate; a head that is not defined is missing.
        rules: by rule, of the head that it ships.
        shipped: by rule, the share of the draws in which it ships a head other than `linear`.
        num_held_out: images that chose.
        num_test: images that report.
    """

    heads: dict[Candidate, Figures]
    rules: dict[Rule, Figures]
    shipped: dict[Rule, float]
    num_held_out: int
    num_test: int


@dataclass(frozen=True, eq=False)
class _Draw:
    """Places of held-out and test images among both, held-out images first."""

    held_out: NDArray[np.int64]
    test: NDArray[np.int64]


def collect(out: Path) -> dict[Setting, dict[int, Reached]]:
    """Evaluate all finished cells: by setting and seed."""
    found: dict[Setting, dict[int, Reached]] = {setting: {} for setting in SETTINGS}
    for cell in all_cells():
        if not is_finished(cell, out):
            continue
        embedded = read_cell(cell, out)
        for setting in SETTINGS:
            if setting.kind == cell.kind:
                found[setting][cell.seed] = reach(setting, cell, embedded)
    return found


def reach(setting: Setting, cell: Cell, embedded: Embedded) -> Reached:
    """Evaluate every rule and head on one classifier."""
    heads = {prior: heads_under(embedded.bundle, prior) for prior in PRIORS}
    features = np.concatenate([embedded.validation, embedded.test])
    labels = np.concatenate([embedded.validation_labels, embedded.test_labels])
    names = [(name, prior) for name, prior in CANDIDATES if name in heads[prior]]
    scores = {(name, prior): heads[prior][name].scores(features) for name, prior in names}
    shares = None if setting.test_share is None else {0: 1 - setting.test_share, 1: setting.test_share}
    draws = list(_draws(setting, cell, embedded))
    on_test: list[dict[Candidate, Figures]] = []
    shipped: list[dict[Rule, Candidate]] = []
    for number, draw in enumerate(draws):
        if number == 0 or setting.draw == "swap":
            tested = {name: judge(values[draw.test], labels[draw.test], shares) for name, values in scores.items()}
        on_test.append({name: one.figures for name, one in tested.items()})
        judged = {name: judge(values[draw.held_out], labels[draw.held_out]) for name, values in scores.items()}
        shipped.append({rule: _ship(rule, judged) for rule in RULES})
    return Reached(
        heads={name: _mean([one[name] for one in on_test]) for name in scores},
        rules={rule: _mean([one[ships[rule]] for one, ships in zip(on_test, shipped, strict=True)]) for rule in RULES},
        shipped={rule: float(np.mean([ships[rule][0] != "linear" for ships in shipped])) for rule in RULES},
        num_held_out=len(draws[0].held_out),
        num_test=len(draws[0].test),
    )


def under(prior: Prior, candidates: dict[Candidate, Judged]) -> dict[str, Judged]:
    """Return the heads by name as they are under a prior."""
    return {name: one for (name, which), one in candidates.items() if name != "lda" or which == prior}


def _ship(rule: Rule, judged: dict[Candidate, Judged]) -> Candidate:
    head = choose(rule, under(rule.prior, judged))
    return head, rule.prior if head == "lda" else PRIORS[0]


def _draws(setting: Setting, cell: Cell, embedded: Embedded) -> Iterator[_Draw]:
    num_held_out, num_test = len(embedded.validation), len(embedded.test)
    held_out, test = np.arange(num_held_out), num_held_out + np.arange(num_test)
    if setting.draw == "as-is":
        yield _Draw(held_out, test)
        return
    labels = np.concatenate([embedded.validation_labels, embedded.test_labels])
    for number in range(DRAWS):
        generator = numpy_generator_for(cell.seed, setting.draw, number)
        if setting.draw == "few":
            yield _Draw(stratified_choice(embedded.validation_labels, FEW, generator), test)
        else:
            chosen = stratified_choice(labels, num_held_out, generator)
            yield _Draw(chosen, np.setdiff1d(np.arange(len(labels)), chosen))


def _mean(figures: list[Figures]) -> Figures:
    return {measure: float(np.mean([one[measure] for one in figures])) for measure in MEASURES}


def differences(reached: dict[int, Reached], way: Rule | Candidate, measure: Measure) -> Array:
    """Return a rule's or a head's figure minus that of `linear`, in points, one a seed."""
    linear: Candidate = ("linear", PRIORS[0])
    found = []
    for one in reached.values():
        figures = one.rules[way] if isinstance(way, Rule) else one.heads[way]
        found.append(100 * (figures[measure] - one.heads[linear][measure]))
    return np.array(found)


def shipped_head(rule: Rule, embedded: Embedded) -> str:
    """Return the head that a rule ships by the held-out images of a cell."""
    heads = heads_under(embedded.bundle, rule.prior)
    return choose(
        rule,
        {name: judge(head.scores(embedded.validation), embedded.validation_labels) for name, head in heads.items()},
    )
