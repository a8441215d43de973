"""The page with the results: claims first, then every cell."""

from collections.abc import Sequence

from experiments.prototypes.cell_tables import cells_table, curve_table, medical_table, readings_table
from experiments.prototypes.claim_tables import claim_table, summary, until_table
from experiments.prototypes.claims import CLAIMS, judge
from experiments.prototypes.grid import SEEDS
from experiments.prototypes.places import Results
from experiments.prototypes.results import Collected

_SETUP = f"""\
# Prototypes in the last round: results

Every row of every run is in [`prototypes.csv`](prototypes.csv). The runs were made by the first of these commands; the
second wrote this page from them:

```
python -m experiments.prototypes run --out <folder> --jobs 2
python -m experiments.prototypes report --out <folder>
```

The plan was fixed before the first run. Fashion-MNIST and MNIST, 10,000 training images, 10 nodes that hold one tenth
of their images out, the whole public test set; split by Dirichlet 0.05, 0.1, 0.5 or IID; FedAvg and FedProx (mu 0.1);
one epoch a round, SGD 0.02 with momentum 0.5, batch 32, constant step size, no augmentation; a CNN with GroupNorm and
an embedding of 128. A run has 30 rounds, and prototypes are exchanged after rounds 3, 10 and 30; shrinkage
0.1. BreastMNIST: all 546 training images, 5 nodes, Dirichlet 0.5, FedAvg, and beside it the same number of epochs on
all images in one place. Seeds 0 to {SEEDS[-1]} change split, start weights and the order of images. No update is
turned away for its length.

Accuracies are those on the test set, in %, means over the seeds. Differences are taken within each seed, in percentage
points, with the 95 % interval of their mean by Student's t ({len(SEEDS) - 1} degrees of freedom); nothing is corrected
for the number of comparisons. `linear` is the network's own last layer: plain FedAvg or FedProx. R is the number of
rounds. "Each node's own" is the reading `local`: every node classifies its share of the test set, all classes alike,
with its own last weights; the share of a node without training images does not count there. AUCs of `nearest-mean` are
too low: see [the summary](../results.md).
"""


def page(found: Collected, figures: Sequence[str]) -> str:
    """Write the whole page.

    Args:
        found: all finished runs.
        figures: names of the pictures beside it.
    """
    results = Results(found.rows)
    findings = [(claim, judge(results, claim)) for claim in CLAIMS]
    parts = [_SETUP, _runs(found), summary(findings)]
    parts += [f"![{name.removesuffix('.png')}]({name})\n" for name in figures]
    parts += [claim_table(number, claim, rows) for number, (claim, rows) in enumerate(findings, start=1)]
    tables = (until_table, cells_table, readings_table, curve_table, medical_table)
    parts += [write(results) for write in tables]
    return "\n".join(parts)


def _runs(found: Collected) -> str:
    finished = len({(row.part, row.source, row.split, row.strategy, row.seed) for row in found.rows})
    lines = [f"Runs: {finished} finished, {len(found.missing)} not."]
    if found.missing:
        lines.append("Not finished: " + ", ".join(found.missing) + ".")
    lines += [f"Not every node was always there in {name}: {reason}." for name, reason in found.degraded.items()]
    return "\n".join(lines) + "\n"
