"""One way to train: options, nodes and seeds."""

from dataclasses import dataclass
from pathlib import Path

from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue

Options = dict[str, OptionValue]

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

_ALWAYS: Options = {
    "tasks": "diffusion",
    "recipe": "tuning",
    "gallery-every": 0,
    "checkpoint-every": 1000,
    # Under Dirichlet 0.5 a node with many images makes an update that is 10 times as long as others.
    "admission.max-update-norm-ratio": 0.0,
}


@dataclass(frozen=True)
class Setting:
    """One way to train, run once for each seed.

    Attributes:
        name: of the setting.
        num_nodes: simulated nodes.
        options: that differ from the defaults.
        seeds: of the runs.
    """

    name: str
    num_nodes: int
    options: Options
    seeds: tuple[int, ...] = (0, 1, 2)

    def config(self, seed: int, out: Path) -> RunConfig:
        """Return all options of one run."""
        own: Options = {"seed": seed, "output-dir": str(out), "run-name": f"{self.name}-seed-{seed}"}
        return RunConfig.from_flat({**default_options(PYPROJECT), **_ALWAYS, **self.options, **own})
