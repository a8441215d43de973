"""Lies of one site of three in every field of every message: how many are rejected, harmless, or pass as truth.

The lies are made from what an honest site sends, by the type of each value. Each is told to the real strategy of a
federation in this process; the honest nodes' answers are computed once for each different instruction. A lie is
`harmless` if what comes out differs from a run with that site honest, or without it, by no more than the amounts of
`tests.lies.verdicts`; `named` if it does harm and a warning names the site. The columns at the right are the largest
differences among the lies that were not rejected: of the accuracy of the classifier that ships, and of any loss (a
factor).
"""

import argparse
import logging
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.output import Row, parser, run
from tests.lies.messages import Lie, fields_of, lies_in
from tests.lies.replay import Federation
from tests.lies.scenarios import SCENARIOS, build, group
from tests.lies.verdicts import Kind, Verdict, judge

_KINDS: tuple[Kind, ...] = ("rejected", "harmless", "named", "passed", "ended")


def measure(arguments: argparse.Namespace) -> Iterable[Row]:
    """Yield a row for each scenario, message and group of fields, and one of them all."""
    logging.disable(logging.ERROR)
    logging.getLogger("flwr").disabled = True
    warnings.simplefilter("ignore")
    total: list[tuple[str, Verdict]] = []
    for name in arguments.scenarios:
        with tempfile.TemporaryDirectory() as folder:
            federation = build(name, Path(folder))
            verdicts: dict[tuple[str, str], list[tuple[str, Verdict]]] = {}
            for lie in _lies(federation, arguments.most):
                verdict = _told(federation, lie)
                verdicts.setdefault((lie.kind, group(lie.field)), []).append((lie.id, verdict))
        for (kind, fields), found in verdicts.items():
            total += found
            yield _row(name, kind, fields, found)
    yield _row("all", "", "", total)


def _lies(federation: Federation, most: int) -> Iterator[Lie]:
    """Yield lies about every field; of those about fields of one group at most a number, drawn by a seed; 0: all."""
    for kind, content in federation.truths().items():
        fields: dict[str, set[str]] = {}
        for field in fields_of(content):
            fields.setdefault(group(field), set()).add(field)
        for name, members in fields.items():
            own = [lie for lie in lies_in(kind, content, members.__contains__) if lie.field in members]
            yield from random.Random(f"{kind} {name}").sample(own, min(most or len(own), len(own)))
        yield from lies_in(kind, content, lambda field: False)


def _told(federation: Federation, lie: Lie) -> Verdict:
    verdict = judge(federation, {lie.kind: lie.make()})
    if verdict.kind in ("named", "passed", "ended"):
        print(f"{verdict.kind}: {lie.id}: {verdict.why}", flush=True)
    return verdict


def _row(scenario: str, kind: str, fields: str, found: list[tuple[str, Verdict]]) -> Row:
    counts = Counter(verdict.kind for _, verdict in found)
    told = [verdict.figures for _, verdict in found if verdict.kind != "rejected"]
    return {
        "scenario": scenario,
        "message": kind,
        "field": fields,
        "lies": len(found),
        **{name: counts[name] for name in _KINDS},
        "accuracy": max((one["accuracy"] for one in told if "accuracy" in one), default=0.0),
        "loss": max((one["loss"] for one in told if "loss" in one), default=1.0),
    }


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    arguments.add_argument(
        "--most", type=int, default=0, help="lies about the fields of one row, drawn by a seed; 0: all (default)"
    )
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
