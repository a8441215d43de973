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
import time
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
            for lie in _lies(federation, arguments.share):
                verdict = _in_time(federation, lie)
                verdicts.setdefault((lie.kind, group(lie.field)), []).append((lie.id, verdict))
        for (kind, fields), found in verdicts.items():
            total += found
            yield _row(name, kind, fields, found)
    yield _row("all", "", "", total)


def _lies(federation: Federation, share: float) -> Iterator[Lie]:
    """Yield lies about every field, or a share of those about each, by a seed."""
    for kind, content in federation.truths().items():
        for field in [*fields_of(content), ""]:
            lies = list(lies_in(kind, content, field.__eq__))
            own = [lie for lie in lies if lie.field == field or (not field and "/" not in lie.field)]
            number = max(1, round(share * len(own)))
            yield from random.Random(f"{kind} {field}").sample(own, number)


def _in_time(federation: Federation, lie: Lie) -> Verdict:
    started = time.monotonic()
    verdict = judge(federation, {lie.kind: lie.make()})
    if verdict.kind in ("named", "passed", "ended"):
        print(f"{verdict.kind}: {lie.id}: {verdict.why}", flush=True)
    if time.monotonic() - started > 60:
        print(f"slow: {lie.id}", flush=True)
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
    arguments.add_argument("--share", type=float, default=1.0, help="of the lies about each field (default: 1)")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
