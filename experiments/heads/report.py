"""From run folders to docs/results: two CSVs and the tables of a page."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from experiments.heads.abstaining import CAUGHT, share_caught
from experiments.heads.choosing import RULES, Rule, heads_under
from experiments.heads.decision import SHIPS
from experiments.heads.embedded import Embedded, is_finished, read_cell
from experiments.heads.plan import (
    LARGE_GAIN,
    LEAST_DIFFERENCE,
    LEAST_SHARE,
    MEASURES,
    PRIORS,
    QUANTILES,
    TESTS,
    Cell,
    Measure,
    Setting,
    all_cells,
)
from experiments.heads.results import CANDIDATES, Candidate, Reached, collect, differences, shipped_head
from experiments.prototypes.layout import signed, table
from fl_app.errors import RunFolderError
from fl_app.files import write_text
from fl_app.grids.estimates import estimate

Found = dict[Setting, dict[int, Reached]]

_TABLES = """\
# Heads and abstention: all tables

Written by `python -m experiments.heads report --out <folder>`; [`heads.md`](heads.md) says what they mean. Means over
the seeds; differences in points within each seed, and in brackets the 95 % interval of their mean by Student's t. In
tables of tests brackets hold the worst run: the lowest share of strange images and of wrong answers, the highest of
right answers.
"""


def mean_difference(reached: dict[int, Reached], way: Rule | Candidate, measure: Measure) -> float:
    """Return a rule's or a head's mean over the seeds minus that of `linear`, in points."""
    return float(differences(reached, way, measure).mean())


def best_gain(reached: dict[int, Reached], measure: Measure) -> tuple[Candidate, float]:
    """Return the head with the largest mean gain over `linear` on test images, and the gain in points."""
    gains = {name: mean_difference(reached, name, measure) for name in CANDIDATES if _has(reached, name)}
    best = max(gains, key=lambda name: gains[name])
    return best, gains[best]


def share_kept(reached: dict[int, Reached], way: Rule | Candidate, measure: Measure) -> float | None:
    """Return the share of the best head's gain that a rule or a head keeps; None if the gain is not large."""
    _, gain = best_gain(reached, measure)
    return mean_difference(reached, way, measure) / gain if gain > LARGE_GAIN else None


def worst(found: Found, way: Rule | Candidate, measure: Measure) -> tuple[float, float | None]:
    """Return the lowest mean difference to `linear` over the settings, and the lowest share of a large gain."""
    lowest = min(mean_difference(reached, way, measure) for reached in found.values())
    shares = [share_kept(reached, way, measure) for reached in found.values()]
    return lowest, min((share for share in shares if share is not None), default=None)


def write_report(out: Path, folder: Path) -> list[Path]:
    """Write `heads.csv`, `heads-abstain.csv` and `heads-tables.md` from the finished cells.

    Raises:
        RunFolderError: no cell is finished.
    """
    found = {setting: reached for setting, reached in collect(out).items() if reached}
    if not found:
        raise RunFolderError(f"{out} holds no finished cell: `python -m experiments.heads run` comes first.")
    caught = collect_caught(out)
    main = {setting: reached for setting, reached in found.items() if setting.is_main}
    sections = {
        "Settings": settings_table(found),
        "Each head minus `linear` on test images, points": heads_table(found),
        f"Rules, main settings ({len(main)})": rules_table(main) if main else "",
        f"Rules, all settings ({len(found)})": rules_table(found),
        f"The rule that was chosen ({SHIPS.measure}, {SHIPS.prior} prior, level {SHIPS.level:g})": chosen_table(found),
        "Tests that give no answer, worst kind of data": abstain_summary(caught),
    }
    sections |= {
        f"Tests that give no answer, {quantile:.0%} of held-out images answered": abstain_table(caught, quantile)
        for quantile in QUANTILES
    }
    tables = _TABLES + "".join(f"\n## {title}\n\n{text}" for title, text in sections.items() if text)
    paths = [folder / name for name in ("heads.csv", "heads-abstain.csv", "heads-tables.md")]
    for path, text in zip(paths, (_heads_csv(found), _abstain_csv(caught), tables), strict=True):
        write_text(path, text)
    return paths


def settings_table(found: Found) -> str:
    """Show how many images chose and reported, and where the most can be gained."""
    rows = []
    for setting, reached in found.items():
        one = next(iter(reached.values()))
        gains = [best_gain(reached, measure) for measure in MEASURES]
        linear = np.mean([[100 * seed.heads["linear", PRIORS[0]][m] for m in MEASURES] for seed in reached.values()], 0)
        cells = [f"{value:.1f}; {_name(best)} {gain:+.1f}" for value, (best, gain) in zip(linear, gains, strict=True)]
        counts = [len(reached), one.num_held_out, one.num_sites, one.num_test]
        rows.append([setting.name, *map(str, counts), *cells])
    return table(
        ["setting", "seeds", "held out", "sites", "test", *(f"{m}: linear; best gain" for m in MEASURES)], rows
    )


def heads_table(found: Found) -> str:
    """Show each head against `linear` on test images."""
    rows = [
        [setting.name, measure, *(_signed(reached, name, measure) for name in CANDIDATES[1:])]
        for setting, reached in found.items()
        for measure in MEASURES
    ]
    return table(["setting", "figure", *(_name(candidate) for candidate in CANDIDATES[1:])], rows)


def rules_table(found: Found) -> str:
    """Show every rule, and `lda` without one: lowest mean difference to `linear`, lowest share of a large gain."""
    ways: dict[tuple[str, str, str], Rule | Candidate] = {
        (rule.measure, rule.prior, f"{rule.level:g}"): rule for rule in RULES
    }
    ways |= {("always `lda`", prior, "-"): ("lda", prior) for prior in PRIORS}
    rows = []
    for names, way in ways.items():
        results = [worst(found, way, measure) for measure in MEASURES]
        rows.append([*names, *(f"{low:+.2f}; {_percent(share)}" for low, share in results), _verdict(results)])
    heads = ["choose-by", "prior", "level", *(f"{m}: worst mean; gain kept" for m in MEASURES), "aims reached"]
    return table(heads, rows)


def chosen_table(found: Found) -> str:
    """Show the rule that was chosen in every setting: its mean difference to `linear` and the share of a large gain."""
    rows = []
    for setting, reached in found.items():
        cells = []
        for measure in MEASURES:
            kept = share_kept(reached, SHIPS, measure)
            difference = signed(estimate(differences(reached, SHIPS, measure).tolist()))
            cells.append(f"{difference}; {_percent(kept)}")
        seeds = reached.values()
        says = [[one.shipped[SHIPS], one.guess, one.turned] for one in seeds]
        rows.append([setting.name, *(f"{100 * share:.0f} %" for share in np.mean(says, axis=0)), *cells])
    told = ["`linear` replaced", "`linear` a guess", "turned by one site"]
    return table(["setting", *told, *(f"{m}: minus `linear`; gain kept" for m in MEASURES)], rows)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _verdict(results: Sequence[tuple[float, float | None]]) -> str:
    met = [low >= LEAST_DIFFERENCE and (share is None or share >= LEAST_SHARE) for low, share in results]
    return ", ".join(measure for measure, is_met in zip(MEASURES, met, strict=True) if is_met) or "none"


Caught = dict[tuple[str, float, str], list[dict[str, float]]]  # kind of cells, quantile, test -> shares, one a seed


def collect_caught(out: Path) -> Caught:
    """Try every test on every finished cell."""
    found: Caught = {}
    for cell in all_cells():
        if is_finished(cell, out):
            for quantile, test, shares in _caught(cell, read_cell(cell, out)):
                found.setdefault((cell.kind, quantile, test), []).append(shares)
    return found


def _caught(cell: Cell, embedded: Embedded) -> Iterable[tuple[float, str, dict[str, float]]]:
    head = heads_under(embedded.classifier, SHIPS.prior)[shipped_head(SHIPS, embedded)]
    for quantile in QUANTILES:
        for test, shares in share_caught(embedded, head, quantile).items():
            yield quantile, test, shares


def abstain_table(caught: Caught, quantile: float) -> str:
    """Show the share in % that each test gives no answer: mean over the seeds and, in brackets, the worst seed."""
    rows = []
    for test in TESTS:
        for kind in dict.fromkeys(kind for kind, _, _ in caught):
            seeds = caught[kind, quantile, test]
            rows.append([test, kind, *(_mean_and_worst([seed[name] for seed in seeds], name) for name in CAUGHT)])
    return table([f"test, {quantile:.0%} of held-out images answered", "data", *CAUGHT], rows)


def abstain_summary(caught: Caught) -> str:
    """Show each test in its worst kind of data: mean over the seeds and, in brackets, the worst run of all kinds."""
    rows = []
    for quantile in QUANTILES:
        for test in TESTS:
            kinds = [seeds for (_, level, name), seeds in caught.items() if (level, name) == (quantile, test)]
            rows.append([test, f"{quantile:.0%}", *(_worst_kind(kinds, name) for name in CAUGHT)])
    return table(["test", "held-out images answered", *CAUGHT], rows)


def _worst_kind(kinds: Sequence[Sequence[dict[str, float]]], name: str) -> str:
    means = [float(np.nanmean([seed[name] for seed in seeds])) for seeds in kinds]
    worst_mean = max(means) if name == "right answers" else min(means)
    values = [100 * seed[name] for seeds in kinds for seed in seeds if not math.isnan(seed[name])]
    return f"{100 * worst_mean:.1f} [{max(values) if name == 'right answers' else min(values):.1f}]"


def _mean_and_worst(values: Sequence[float], name: str) -> str:
    defined = [100 * value for value in values if not math.isnan(value)]
    if not defined:
        return "not defined"
    extreme = max(defined) if name == "right answers" else min(defined)
    return f"{np.mean(defined):.1f} [{extreme:.1f}]"


def _signed(reached: dict[int, Reached], name: Candidate, measure: Measure) -> str:
    return signed(estimate(differences(reached, name, measure).tolist())) if _has(reached, name) else "not defined"


def _has(reached: dict[int, Reached], name: Candidate) -> bool:
    return all(name in one.heads for one in reached.values())


def _name(candidate: Candidate) -> str:
    head, prior = candidate
    return f"{head}, {prior} prior" if head == "lda" else head


def _heads_csv(found: Found) -> str:
    rows: list[list[object]] = []
    for setting, reached in found.items():
        for seed, one in reached.items():
            rows += [
                [setting.name, seed, "head", _name(name), *(f"{figures[m]:.5f}" for m in MEASURES)]
                for name, figures in one.heads.items()
            ]
            rows += [
                [
                    setting.name,
                    seed,
                    "rule",
                    f"{rule.measure}, {rule.prior} prior, level {rule.level:g}",
                    *(f"{figures[m]:.5f}" for m in MEASURES),
                ]
                for rule, figures in one.rules.items()
            ]
    return _csv(["setting", "seed", "kind", "name", *MEASURES], rows)


def _abstain_csv(caught: Caught) -> str:
    rows: list[list[object]] = [
        [kind, quantile, test, seed, *(f"{shares[name]:.4f}" for name in CAUGHT)]
        for (kind, quantile, test), seeds in caught.items()
        for seed, shares in enumerate(seeds)
    ]
    return _csv(["data", "quantile", "test", "seed", *CAUGHT], rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
