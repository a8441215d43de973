"""The comparison as files: a CSV with a row for each run and figure, and a page of means."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from fl_app.grids.collecting import Collected
from fl_app.grids.comparing import Line
from fl_app.grids.estimates import Estimate
from fl_app.grids.reading import GENERATED, NOT_DEFINED, OWN_LAYER, SHIPS, Figure
from fl_app.quality.figure import CLASSIFIED, is_share

COLUMNS = (
    "run", "seed", "setting", "data", "split", "nodes", "task", "method", "head", "site", "figure", "images", "value",
    "note",
)  # fmt: skip

_COSTS = ("rounds", "failed-rounds", "bytes-down-a-round", "bytes-up-a-round", "seconds-a-round", "seconds")
_MOST_NAMES = 4


def rows(collected: Collected) -> Iterator[dict[str, object]]:
    """Yield a row for each run and figure, by column; a value that is not defined is None, and the note says why."""
    for setting, runs in collected.settings.items():
        for run in runs:
            which = {"run": run.name, "seed": run.seed, "setting": setting, "data": run.data, "split": run.split}
            for one in run.figures:
                yield {
                    **which,
                    "nodes": run.nodes,
                    "task": one.task,
                    "method": one.method,
                    "head": one.head,
                    "site": one.site,
                    "figure": one.name,
                    "images": one.images,
                    "value": one.value,
                    "note": one.why,
                }


def to_csv(collected: Collected) -> str:
    """Return the rows as CSV; what is not defined says so."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows(collected):
        value = NOT_DEFINED if row["value"] is None else row["value"]
        writer.writerow({**row, "value": value, "images": "" if row["images"] is None else row["images"]})
    return text.getvalue()


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    whole = [list(head), ["---"] * len(head), *(list(line) for line in lines)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in whole)


def page(collected: Collected, lines: Sequence[Line], baseline: str, pictures: Sequence[str]) -> str:
    """Write the page of means.

    Args:
        collected: the runs.
        lines: what was compared.
        baseline: the setting that differences are taken to.
        pictures: names of the pictures beside it.
    """
    parts = [f"# Comparison of {len(collected.runs)} runs\n", _how(collected, baseline)]
    parts += [_settings(collected)]
    ships = [line for line in lines if line.figure.method == SHIPS and not line.figure.site]
    parts += _section("The classifier that ships, on test images", ships)
    own = [
        one
        for one in lines
        if one.figure.name in CLASSIFIED
        and one.figure.task == "classification"
        and one.figure.method not in ("", SHIPS)
    ]
    parts += _section("Every way to classify, on test images", own)
    parts += _quality_section([line for line in lines if line.figure.method == GENERATED])
    parts += _losses([line for line in lines if line.figure.name == "held-out-loss"])
    parts += _costs([line for line in lines if line.figure.name in _COSTS and not line.figure.site])
    parts += [f"![{name.rsplit('.', 1)[0]}]({name})\n" for name in pictures]
    parts += _notes(collected, lines)
    return "\n".join(parts)


def _how(collected: Collected, baseline: str) -> str:
    to = (
        f"the same figure of `{baseline}`, on the same data and split"
        if len(collected.settings) > 1
        else f"the {OWN_LAYER} of the same run"
    )
    return (
        "Mean ± standard deviation over the seeds. A difference is taken within each seed, to "
        f"{to}; in brackets the 95 % interval of its mean by Student's t, which two common seeds or more have. Nothing "
        "is corrected for the number of comparisons. Every run's own figures: [`comparison.csv`](comparison.csv).\n"
    )


def _settings(collected: Collected) -> str:
    lines = []
    for setting, runs in collected.settings.items():
        seeds = ", ".join(str(run.seed) for run in runs)
        data, split = ("; ".join(dict.fromkeys(getattr(run, name) for run in runs)) for name in ("data", "split"))
        lines.append([setting, collected.meaning(setting), data, split, seeds])
    return "## Settings\n\n" + markdown_table(["setting", "options", "data", "split", "seeds"], lines)


def _section(title: str, lines: Sequence[Line]) -> list[str]:
    """Write test figures: a row for each setting and head, a column for each figure, and accuracy's difference."""
    if not lines:
        return []
    by_row: dict[tuple[str, str, str], dict[str, Line]] = {}
    for line in lines:
        by_row.setdefault((line.setting, line.figure.method, line.figure.head), {})[line.figure.name] = line
    named = [name for name in CLASSIFIED if any(name in found for found in by_row.values())]
    has_heads = any(head for _, _, head in by_row)
    head = ["setting", *(["method", "head"] if has_heads else []), *named]
    head += [f"{named[0]}: difference", "seeds", "images"]
    table = []
    for (setting, method, of), found in by_row.items():
        first = found[named[0]]
        cells = [setting, *([method, of] if has_heads else [])]
        cells += [spread(found[name].over_seeds, name) if name in found else NOT_DEFINED for name in named]
        table.append([*cells, difference(first), str(first.over_seeds.num_seeds), images(first)])
    return [f"## {title}\n", markdown_table(head, table)]


def _quality_section(lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    head = ["setting", "figure", "features", "mean", "difference", "seeds", "images"]
    table = [
        [one.setting, one.figure.name, one.figure.head, spread(one.over_seeds, one.figure.name), difference(one),
         str(one.over_seeds.num_seeds), images(one)]
        for one in lines
    ]  # fmt: skip
    return ["## Generated images\n", markdown_table(head, table)]


def _losses(lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    table = [
        [one.figure.task, one.setting, spread(one.over_seeds, "loss"), difference(one), str(one.over_seeds.num_seeds),
         images(one)]
        for one in lines
    ]  # fmt: skip
    head = ["training", "setting", "last loss", "difference", "seeds", "images"]
    return ["## Loss on held-out images, before the last round\n", markdown_table(head, table)]


def _costs(lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    by_row: dict[tuple[str, str], dict[str, Line]] = {}
    for line in lines:
        by_row.setdefault((line.figure.task, line.setting), {})[line.figure.name] = line
    table = [
        [task, setting, *(spread(found[name].over_seeds, name) if name in found else NOT_DEFINED for name in _COSTS)]
        for (task, setting), found in by_row.items()
    ]
    head = ["training", "setting", "rounds", "failed", "MB down a round", "MB up a round", "s a round", "s, all rounds"]
    return ["## Rounds, bytes, seconds\n", markdown_table(head, table)]


def _notes(collected: Collected, lines: Sequence[Line]) -> list[str]:
    """Name the runs that were left out, and each reason why a figure or a difference is not defined."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        if line.why and not line.figure.site:
            reasons.setdefault(f"{line.setting}: {line.why}", []).append(_name(line.figure))
    said = [f"- {problem}\n" for problem in collected.problems]
    said += [f"- {reason} ({_shorten(list(dict.fromkeys(names)))})\n" for reason, names in reasons.items()]
    return ["## Left out, and not defined\n", "".join(said)] if said else []


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} figures, {names[0]} among them"


def _name(figure: Figure) -> str:
    return " ".join(part for part in (figure.method or figure.task, figure.head, figure.name) if part)


def spread(found: Estimate, name: str) -> str:
    """Write mean and standard deviation of a figure: shares with three decimals, bytes in MB."""
    if found.mean is None:
        return NOT_DEFINED
    unit = 1e6 if name.startswith("bytes") else 1.0
    mean, deviation = found.mean / unit, None if found.deviation is None else found.deviation / unit
    if is_share(name):
        return f"{mean:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")
    if deviation is None or (deviation == 0 and name in _COSTS):
        return f"{mean:.3g}" if name in _COSTS else f"{mean:.4g}"
    return f"{mean:.3g} ± {deviation:.2g}" if name in _COSTS else f"{mean:.4g} ± {deviation:.2g}"


def difference(line: Line) -> str:
    """Write a difference and its interval: `+0.012 [+0.003, +0.021]`; a dash for the reference itself."""
    found = line.difference
    if not line.reference:
        return "-"
    if found.mean is None:
        return NOT_DEFINED
    digits = 3 if is_share(line.figure.name) else 4
    ends = [
        f"{round(value, digits) + 0.0:+.{digits}f}"
        for value in (found.mean, found.low, found.high)
        if value is not None
    ]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]" if len(ends) > 1 else f"{ends[0]} [{NOT_DEFINED}]"


def images(line: Line) -> str:
    """Write the number of images: one number, or the smallest and the largest of the seeds."""
    if not line.images:
        return ""
    return str(line.images[0]) if len(line.images) == 1 else f"{line.images[0]} to {line.images[-1]}"
