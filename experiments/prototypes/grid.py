"""What is run: every cell of the experiment, fixed before the first run."""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue

Part = Literal["heads", "rounds", "medical"]

SEEDS = (0, 1, 2, 3, 4)
SOURCES = ("fashion-mnist", "mnist")
ALPHAS = (0.05, 0.1, 0.5, None)  # of the Dirichlet split; None: IID
SPLITS = ("dirichlet-0.05", "dirichlet-0.1", "dirichlet-0.5", "iid")
STRATEGIES = ("FedAvg", "FedProx")
ROUNDS = (3, 10, 30)
EVERY_ROUND = tuple(range(1, 16))
READINGS = ("consistent", "piggyback", "local")

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@dataclass(frozen=True)
class Cell:
    """One run of the experiment.

    Attributes:
        part: of the experiment: `heads` compares all heads at fixed rounds, `rounds` looks at every round, `medical`
            at a small medical set beside a centralised run.
        source: the data set.
        limit: training images taken; 0: all.
        alpha: of the Dirichlet split; None: IID.
        strategy: FedAvg or FedProx.
        seed: of the whole run, split and start weights included.
        num_nodes: simulated nodes.
        rounds: after which prototypes are exchanged, rising; training ends with the last one.
        readings: whose features the prototypes are measured and used with.
        baselines: trained for comparison.
    """

    part: Part
    source: str
    limit: int
    alpha: float | None
    strategy: str
    seed: int
    num_nodes: int
    rounds: tuple[int, ...]
    readings: tuple[str, ...] = READINGS
    baselines: tuple[str, ...] = ()

    @property
    def split(self) -> str:
        """Name of the split."""
        return "iid" if self.alpha is None else f"dirichlet-{self.alpha:g}"

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return f"{self.part}-{self.source}-{self.split}-{self.strategy.lower()}-seed-{self.seed}"

    def options(self) -> dict[str, OptionValue]:
        """Return the options that the experiment fixes; all others keep their default."""
        partition: dict[str, OptionValue] = {"partition.scheme": "iid"}
        if self.alpha is not None:
            partition = {"partition.scheme": "dirichlet", "partition.alpha": self.alpha}
        return partition | {
            "tasks": "classification",
            "recipe": "prototypes",
            "seed": self.seed,
            "data.source": self.source,
            "data.limit": self.limit,
            "data.validation-share": 0.1,
            "federation.min-nodes": self.num_nodes,
            # Under Dirichlet 0.05 a node with 50 times the images of another makes an update that is 10 times as long.
            "admission.max-update-norm-ratio": 0.0,
            "strategy.proximal-mu": 0.1,
            "classification.strategy": self.strategy,
            "classification.num-rounds": self.rounds[-1],
            "classification.epochs": 1,
            "classification.batch-size": 32,
            "classification.optimizer": "sgd",
            "classification.learning-rate": 0.02,
            "classification.momentum": 0.5,
            "classification.lr-schedule": "constant",
            "classification.keep-optimizer-state": False,
            "classification.gradient-clip": 0.0,
            "classification.network": "cnn",
            "classification.embedding-size": 128,
            "classification.augment": "",
            "classification.readings": ",".join(self.readings),
            "classification.prototype-rounds": ",".join(str(number) for number in self.rounds),
            "classification.shrinkage": 0.1,
            "classification.head": "auto",
            "classification.baselines": ",".join(self.baselines),
        }

    def config(self, out: Path, resume: bool = False) -> RunConfig:
        """Return all options of the run, whose folder is `out/<name>`.

        Raises:
            OptionError: an option is unknown or out of range.
        """
        folder: dict[str, OptionValue] = {"output-dir": str(out), "run-name": self.name}
        if resume:
            folder["resume"] = str(out / self.name)
        return RunConfig.from_flat({**_defaults(), **self.options(), **folder})

    def result_files(self, out: Path) -> dict[tuple[str, int], Path]:
        """Return where a finished run has written what: by pass (a folder's name) and round."""
        passes = ("classification", *(f"classification-{name}" for name in self.baselines))
        return {
            (name, number): out / self.name / name / "prototypes" / f"round-{number:04d}.json"
            for name in passes
            for number in self.rounds
        }

    def to_json(self) -> str:
        """Write the cell as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})


def all_cells() -> list[Cell]:
    """Return every cell, one seed after the other, so that a part of them already covers the whole plan."""
    return [cell for seed in SEEDS for cell in (_medical(seed), *_heads(seed), _rounds(seed))]


def _heads(seed: int) -> list[Cell]:
    return [
        Cell("heads", source, 10_000, alpha, strategy, seed, num_nodes=10, rounds=ROUNDS)
        for alpha in ALPHAS
        for source in SOURCES
        for strategy in STRATEGIES
    ]


def _rounds(seed: int) -> Cell:
    """One reading only: its messages are what an exchange costs."""
    readings = ("consistent",)
    return Cell("rounds", "fashion-mnist", 10_000, 0.05, "FedAvg", seed, 10, EVERY_ROUND, readings)


def _medical(seed: int) -> Cell:
    return Cell("medical", "breastmnist", 0, 0.5, "FedAvg", seed, 5, ROUNDS, baselines=("centralised",))


@cache
def _defaults() -> dict[str, OptionValue]:
    return default_options(_PYPROJECT)
