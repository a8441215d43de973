"""Means of figures over seeds, and differences between settings, paired by seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fl_app.errors import OptionError, did_you_mean
from fl_app.grids.collecting import Collected
from fl_app.grids.estimates import Estimate, estimate
from fl_app.grids.reading import GENERATED, OWN_LAYER, Figure, RunFigures

Key = tuple[str, str, str, str, str]  # of `Figure.key`

_UNLIKE = "other {what} in {setting}: not paired"


@dataclass(frozen=True)
class Line:
    """A figure of one setting, over its seeds.

    Attributes:
        setting: its label.
        figure: one of the seeds', for its task, method, head, name and site.
        over_seeds: mean, deviation and interval.
        images: how many it was measured on, of the seeds that have it; empty: not on images.
        reference: what the difference is taken to; empty if this is the reference.
        difference: of pairs of one seed.
        why: what is not defined, and the reason.
    """

    setting: str
    figure: Figure
    over_seeds: Estimate
    images: Sequence[int]
    reference: str
    difference: Estimate
    why: str


def choose_baseline(collected: Collected, wanted: str | None) -> str:
    """Return the setting that differences are taken to: the wanted one, else the first.

    Raises:
        OptionError: there is no such setting.
    """
    labels = list(collected.settings)
    if wanted is not None and wanted not in labels:
        hint = did_you_mean(wanted, labels)
        raise OptionError(f"--baseline must be one of the settings, {'; '.join(labels)}, got '{wanted}'.{hint}")
    return labels[0] if wanted is None else wanted


def compare_figures(collected: Collected, baseline: str) -> list[Line]:
    """Return a line for each figure and setting.

    With more than one setting, each is compared with the baseline, figure by figure. With one setting only, each way to
    classify is compared with the network's own layer.

    Args:
        collected: the runs by setting.
        baseline: one of the settings.
    """
    keys = dict.fromkeys(figure.key for run in collected.runs for figure in run.figures)
    return [
        line
        for key in keys
        for setting, runs in collected.settings.items()
        if (line := _line(key, setting, runs, collected, baseline)) is not None
    ]


def _line(key: Key, setting: str, runs: Sequence[RunFigures], collected: Collected, baseline: str) -> Line | None:
    found = dict(_of_key(runs, key))
    if not found:
        return None
    (reference, named), reasons = _reference(key, setting, collected, baseline), list[str]()
    values = {seed: figure.value for seed, (_, figure) in found.items() if figure.value is not None}
    reasons += dict.fromkeys(figure.why for _, figure in found.values() if figure.why)
    missing = [run.name for run in runs if run.seed not in found]
    reasons += [f"not in {name}" for name in missing]
    unlike = _unlike([run for run, _ in found.values()]) or _unlike_images([figure for _, figure in found.values()])
    if unlike:
        reasons, values = [f"other {unlike} among its runs: no mean"], {}
    if reference is None:
        return _make(setting, key, found, estimate(list(values.values())), "", estimate([]), reasons)
    pairs, refused = list[float](), list[str]()
    for seed, (run, figure) in dict(_of_key(collected.settings[reference[0]], reference[1])).items():
        if seed not in values or figure.value is None:
            continue
        other_run, other = found[seed]
        what = _unlike([run, other_run]) or _unlike_images([figure, other])
        what = what or ("test images" if figure.images != other.images else "")
        if figure.method.startswith(GENERATED) and run.nodes != other_run.nodes:  # each site measures on its own
            what = what or "numbers of sites"
        if what:
            refused.append(_UNLIKE.format(what=what, setting=named))
            continue
        pairs.append(values[seed] - figure.value)
    if len(pairs) < 2 and not refused:
        common = "one common seed" if pairs else "no common seed"
        refused = [f"{common} with {named}, an interval needs two"]
    reasons += refused
    difference = estimate(pairs)
    return _make(setting, key, found, estimate(list(values.values())), named, difference, reasons)


def _make(
    setting: str,
    key: Key,
    found: dict[int, tuple[RunFigures, Figure]],
    over_seeds: Estimate,
    reference: str,
    difference: Estimate,
    reasons: Sequence[str],
) -> Line:
    first = next(iter(found.values()))[1]
    assert first.key == key
    images = sorted({figure.images for _, figure in found.values() if figure.images is not None})
    return Line(setting, first, over_seeds, images, reference, difference, "; ".join(dict.fromkeys(reasons)))


def _of_key(runs: Sequence[RunFigures], key: Key) -> Iterator[tuple[int, tuple[RunFigures, Figure]]]:
    for run in runs:
        for figure in run.figures:
            if figure.key == key:
                yield run.seed, (run, figure)
                break


def _reference(key: Key, setting: str, collected: Collected, baseline: str) -> tuple[tuple[str, Key] | None, str]:
    """Return the setting and figure that a figure is compared with, and its name; None if it is the reference."""
    if len(collected.settings) > 1:
        other = collected.reference_of(setting, baseline)
        return (None, "") if setting == other else ((other, key), other)
    task, method, _, name, site = key
    own = next(
        (one.key for run in collected.runs for one in run.figures if (one.method, one.name) == (OWN_LAYER, name)), None
    )
    if own is None or site or not method or key == own or task != own[0]:
        return None, ""
    return (setting, own), OWN_LAYER


def _unlike(runs: Sequence[RunFigures]) -> str:
    """Name what keeps runs from being compared; empty if nothing does."""
    for name in ("data", "split", "classes"):
        if len({getattr(run, name) for run in runs}) > 1:
            return name
    return ""


def _unlike_images(figures: Sequence[Figure]) -> str:
    """Name what keeps figures of generated images from being compared; empty if nothing does."""
    named = {"generated": "numbers of generated images", "network": "feature networks", "neighbours": "numbers k"}
    for name, what in named.items():
        if len({getattr(one, name) for one in figures}) > 1:
            return what
    return ""
