"""How far honest sites' own networks lie apart: lengths and scatter of their embeddings beside the median site's.

python -m benchmarks.own_networks --source digits --sites 10
"""

import argparse
import logging
import statistics
import tempfile
from collections.abc import Iterable, Sequence

from flwr.app import Message

from benchmarks.local_grid import run_federation
from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.classification.comparing import mean_length, out_of_scale, scatter
from fl_app.classification.moments import Moments
from fl_app.messages.arrays import unpack
from fl_app.messages.records import TRAIN
from fl_app.options.run import RunConfig


def measure(arguments: argparse.Namespace) -> Iterable[Row]:
    """Yield a row for each seed: the largest factors between a site and the median site, and who is rejected."""
    logging.disable(logging.CRITICAL)
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            parts = own_moments(_config(folder, seed, arguments), arguments.sites)
        held = {site: part for site, part in parts.items() if part["count"].any()}
        lengths = [mean_length(part) for part in held.values()]
        scatters = [found for part in held.values() if (found := scatter(part)) is not None]
        typical = statistics.median(lengths)
        yield {
            "seed": seed,
            "sites": len(held),
            "longer": max(lengths) / typical,
            "shorter": typical / min(lengths),
            "more-scatter": max(scatters) / statistics.median(scatters),
            "rejected": ", ".join(out_of_scale(held)) or "none",
        }


def own_moments(config: RunConfig, num_sites: int) -> dict[str, Moments]:
    """Train honest sites, and return what each measured with its own network in the last round."""
    found: dict[str, Moments] = {}

    def keep(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == TRAIN and not reply.has_error():
            sums = unpack(reply.content.array_records["statistics"])
            own = {key.removeprefix("own/"): value.astype(float) for key, value in sums.items() if "own/" in key}
            found.update({f"site-{instruction.metadata.dst_node_id % 1000}": own} if own else {})
        return reply

    run_federation(config, num_sites, meddle=keep)
    return found


def _config(folder: str, seed: int, arguments: argparse.Namespace) -> RunConfig:
    return default_config(
        {
            "output-dir": folder,
            "run-name": "run",
            "tasks": "classification",
            "seed": seed,
            "data.source": arguments.source,
            "data.limit": arguments.limit,
            "partition.scheme": "dirichlet",
            "partition.alpha": 0.1,
            "classification.num-rounds": 4,
            "classification.readings": "piggyback",
            "gallery-every": 0,
        }
    )


def main(words: Sequence[str] | None = None) -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--source", default="digits", help="data set (default: digits)")
    arguments.add_argument("--limit", type=int, default=0, help="training images of all sites (default: all)")
    arguments.add_argument("--sites", type=int, default=10, help="number of sites (default: 10)")
    arguments.add_argument("--seeds", type=int, nargs="+", default=list(range(10)), help="seeds (default: 0 to 9)")
    run(measure, arguments.parse_args(words))


if __name__ == "__main__":
    main()
