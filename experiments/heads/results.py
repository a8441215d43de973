"""What every rule and every head reaches in every setting, seed by seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.heads.choosing import (
    RULES,
    Array,
    Figures,
    Labels,
    Rule,
    choose,
    heads_under,
    is_guess,
    judge,
    split_sums,
)
from experiments.heads.decision import SHIPS
from experiments.heads.embedded import Embedded, is_finished, read_cell
from experiments.heads.plan import DRAWS, FEW, MEASURES, PRIORS, SETTINGS, Cell, Measure, Prior, Setting, all_cells
from fl_app.classification.heads import HEADS, Head
from fl_app.data.partition import stratified_choice
from fl_app.seeding import numpy_generator_for
from fl_app.sums import add

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
        num_sites: nodes that held an image out, as far as the run tells.
        guess: the share of the draws in which `linear` is a guess by the measure of the chosen rule.
        turned: the share of the draws in which the chosen rule ships another head than all images without sites would.
    """

    heads: dict[Candidate, Figures]
    rules: dict[Rule, Figures]
    shipped: dict[Rule, float]
    num_held_out: int
    num_test: int
    num_sites: int = 1
    guess: float = 0.0
    turned: float = 0.0


@dataclass(frozen=True, eq=False)
class _Draw:
    """Places of held-out and test images among both, held-out images first; the site of each held-out one."""

    held_out: Labels
    test: Labels
    sites: Labels


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
    heads = {prior: heads_under(embedded.classifier, prior) for prior in PRIORS}
    features = np.concatenate([embedded.validation, embedded.test])
    labels = np.concatenate([embedded.validation_labels, embedded.test_labels])
    names = [(name, prior) for name, prior in CANDIDATES if name in heads[prior]]
    scores = {(name, prior): heads[prior][name].scores(features) for name, prior in names}
    shares = None if setting.test_share is None else {0: 1 - setting.test_share, 1: setting.test_share}
    draws = list(_draws(setting, cell, embedded))
    tested: list[dict[Candidate, Figures]] = []
    chosen: list[_Chosen] = []
    for number, draw in enumerate(draws):
        if number == 0 or setting.draw == "swap":
            figures = {name: judge(values[draw.test], labels[draw.test], shares) for name, values in scores.items()}
        tested.append(figures)
        held_out = {name: values[draw.held_out] for name, values in scores.items()}
        chosen.append(_choose(heads, held_out, labels[draw.held_out], draw.sites))
    ships = [one.candidates for one in chosen]
    return Reached(
        heads={name: _mean([one[name] for one in tested]) for name in scores},
        rules={rule: _mean([one[ship[rule]] for one, ship in zip(tested, ships, strict=True)]) for rule in RULES},
        shipped={rule: float(np.mean([ship[rule][0] != "linear" for ship in ships])) for rule in RULES},
        num_held_out=len(draws[0].held_out),
        num_test=len(draws[0].test),
        num_sites=len(np.unique(draws[0].sites)),
        guess=float(np.mean([one.is_guess for one in chosen])),
        turned=float(np.mean([one.is_turned for one in chosen])),
    )


@dataclass(frozen=True)
class _Chosen:
    """What every rule ships by one draw of held-out images; of the chosen rule, whether its exceptions had a say."""

    candidates: dict[Rule, Candidate]
    is_guess: bool
    is_turned: bool


def _choose(
    heads: dict[Prior, dict[str, Head]], scores: dict[Candidate, Array], labels: Labels, sites: Labels
) -> _Chosen:
    sums = {}
    for prior in PRIORS:
        of_prior = {name: scores[_candidate(name, prior)] for name in heads[prior]}
        sums[prior] = split_sums(of_prior, labels, sites)
    shipped = {rule: choose(rule, heads[rule.prior], sums[rule.prior]) for rule in RULES}
    by_all = choose(SHIPS, heads[SHIPS.prior], {"all": add(sums[SHIPS.prior].values())})
    return _Chosen(
        {rule: _candidate(one.head, rule.prior) for rule, one in shipped.items()},
        is_guess(SHIPS.measure, sums[SHIPS.prior]),
        shipped[SHIPS].head != by_all.head,
    )


def _candidate(head: str, prior: Prior) -> Candidate:
    return head, prior if head == "lda" else PRIORS[0]


def _draws(setting: Setting, cell: Cell, embedded: Embedded) -> Iterator[_Draw]:
    num_held_out, num_test = len(embedded.validation), len(embedded.test)
    test = num_held_out + np.arange(num_test)
    if setting.draw == "as-is":
        yield _Draw(np.arange(num_held_out), test, embedded.sites)
        return
    labels = np.concatenate([embedded.validation_labels, embedded.test_labels])
    for number in range(DRAWS[setting.draw]):
        generator = numpy_generator_for(cell.seed, setting.draw, number)
        if setting.draw == "few":
            chosen = stratified_choice(embedded.validation_labels, FEW, generator)
            yield _Draw(chosen, test, embedded.sites[chosen])
        else:  # of no site: nodes hold no test images out
            chosen = stratified_choice(labels, num_held_out, generator)
            rest = np.setdiff1d(np.arange(len(labels)), chosen)
            yield _Draw(chosen, rest, np.zeros(num_held_out, dtype=np.int64))


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
    heads = heads_under(embedded.classifier, rule.prior)
    scores = {name: head.scores(embedded.validation) for name, head in heads.items()}
    return choose(rule, heads, split_sums(scores, embedded.validation_labels, embedded.sites)).head
