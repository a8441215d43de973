"""What is run and what is compared, fixed before the first run."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue, flatten

Measure = Literal["accuracy", "balanced-accuracy", "auc"]
Prior = Literal["training", "equal"]

SEEDS = tuple(range(10))

# Part 1: which head ships.
MEASURES: tuple[Measure, ...] = ("accuracy", "balanced-accuracy", "auc")
PRIORS: tuple[Prior, ...] = ("training", "equal")
# How sure it must be that a head is better than `linear`: the two-sided level of the paired interval that must lie
# above 0. 0 takes the best head, as the program did before. A level of 0.80 is a one-sided one of 0.90.
LEVELS = (0.0, 0.5, 0.68, 0.8, 0.9, 0.95)

# Aims: the head that ships minus `linear` on test images, mean over the seeds, in points, in the worst setting; and the
# share of the best head's mean gain that is kept, in each setting where it exceeds LARGE_GAIN points. The best head is
# the one with the largest mean gain on the test images, under either prior.
LEAST_DIFFERENCE = -0.3
LEAST_SHARE = 0.9
LARGE_GAIN = 2.0

# Part 2: which test says "I do not know", beside the head that the rule of part 1 ships. Each test is a number per
# image; what exceeds the threshold gets no answer.
TESTS = (
    "euclid",  # distance to the nearest prototype (today)
    "mahalanobis",  # the same, under lda's covariance within the classes
    "unsure",  # 1 - the largest probability of the head that ships, at its temperature
    "energy",  # -logsumexp of the scores of `linear`
    "euclid or unsure",  # either one, each at half of the share that gets no answer
    "mahalanobis or unsure",
    "mahalanobis or energy",
    # Added after the first results: no test of the embedding catches noise in every run.
    "pixels",  # Mahalanobis distance of three numbers of the picture to the training images: see `pixels.py`
    "mahalanobis or pixels",
    "mahalanobis or pixels or unsure",
)
QUANTILES = (0.99, 0.95)  # of the held-out images that get an answer
NUM_STRANGE = 1000  # images of noise and of another data set, each

# Draws of the held-out images, if a setting draws them anew. By `few` ten nodes vote under each of the 36 rules, which
# takes 3 s a draw.
DRAWS = {"few": 5, "swap": 20}
FEW = 100  # held-out images of the settings that take a part of them

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Cell:
    """One federation whose classifier is looked at.

    Attributes:
        data: `fashion-mnist`, `mnist`, `breastmnist`, whose optimizer starts afresh each round, the same with kept
            optimizer state as `breastmnist-kept`, or `tops`: T-shirts against shirts from Fashion-MNIST, in the
            class balance of a set of chest films, 74 % of one class in training and 62.5 % in the test set.
        alpha: of the Dirichlet split.
        seed: of the whole run, split and start weights included.
    """

    data: str
    alpha: float
    seed: int

    @property
    def kind(self) -> str:
        """Name of the cells that differ in the seed alone."""
        return f"{self.data}-{self.alpha:g}"

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return f"{self.kind}-seed-{self.seed}"

    @property
    def num_nodes(self) -> int:
        """How many nodes are simulated."""
        return 10 if self.data in ("fashion-mnist", "mnist") else 5

    @property
    def other_data(self) -> str:
        """The data set whose images the classifier should not answer."""
        return {"fashion-mnist": "mnist", "tops": "mnist"}.get(self.data, "fashion-mnist")

    def npz_folder(self, out: Path) -> Path:
        """Where the images of the cell are, if they had to be put together."""
        return out / "images" / self.name

    def config(self, out: Path) -> RunConfig:
        """Return all options of the run, whose folder is `out/<name>`; all but these keep their default.

        BreastMNIST and `tops` train on all their training images: their npz has a part `val`, which is held out.
        """
        options: dict[str, OptionValue] = {
            "tasks": "classification",
            "recipe": "heads",
            "seed": self.seed,
            "output-dir": str(out),
            "run-name": self.name,
            "checkpoint-every": 1000,
            "data.source": self.data,
            "partition.scheme": "dirichlet",
            "partition.alpha": self.alpha,
            "federation.min-nodes": self.num_nodes,
        }
        if self.data in ("fashion-mnist", "mnist"):
            options |= {"data.limit": 6000, "data.validation-share": 0.1}
        elif self.data.startswith("breastmnist"):
            options |= {"data.source": "breastmnist", "data.validation-share": 0.0, **_recipe_of_breastmnist()}
            options["classification.keep-optimizer-state"] = self.data == "breastmnist-kept"
        else:
            options |= {
                "data.source": "folder",
                "data.directory": str(self.npz_folder(out)),
                "data.image-size": 28,
                "data.num-channels": 1,
                "data.class-names": "T-shirt,shirt",
                "data.validation-share": 0.0,
            }
        return RunConfig.from_flat({**default_options(_ROOT / "pyproject.toml"), **options})


@dataclass(frozen=True)
class Setting:
    """How the classifiers of some cells are judged.

    Attributes:
        name: as tables show it.
        kind: of the cells.
        draw: `as-is`; `few`, FEW of the held-out images; `swap`, held-out and test images drawn anew from both, since
            BreastMNIST has the same 78 held-out images in every run.
        test_share: the share of class 1 that the test images are weighted to; None: as they are.
        is_main: whether the aims are for it; the others tell how far they hold.
    """

    name: str
    kind: str
    draw: Literal["as-is", "few", "swap"] = "as-is"
    test_share: float | None = None
    is_main: bool = False


SETTINGS = (
    Setting("Fashion-MNIST, Dirichlet 0.1", "fashion-mnist-0.1", is_main=True),
    Setting("Fashion-MNIST, Dirichlet 0.5", "fashion-mnist-0.5", is_main=True),
    Setting("BreastMNIST, Dirichlet 0.5", "breastmnist-0.5", is_main=True),
    Setting("BreastMNIST, held-out images drawn anew", "breastmnist-0.5", "swap"),
    Setting("BreastMNIST, drawn anew, 62.5 % benign in the test set", "breastmnist-0.5", "swap", test_share=0.625),
    Setting("T-shirt or shirt, 74 % and 62.5 %", "tops-0.5"),
    Setting("MNIST, Dirichlet 0.1", "mnist-0.1"),
    Setting("Fashion-MNIST, Dirichlet 0.1, 100 held out", "fashion-mnist-0.1", "few"),
    Setting("Fashion-MNIST, Dirichlet 0.5, 100 held out", "fashion-mnist-0.5", "few"),
    # Added after the first results, before their own: in all of the above `linear` is poor, and caution only costs.
    Setting("BreastMNIST, state kept", "breastmnist-kept-0.5"),
    Setting("BreastMNIST, state kept, held-out images drawn anew", "breastmnist-kept-0.5", "swap"),
    Setting("BreastMNIST, state kept, drawn anew, 62.5 % benign", "breastmnist-kept-0.5", "swap", test_share=0.625),
    Setting("T-shirt or shirt, 74 % and 62.5 %, nodes alike", "tops-100"),
)

_KINDS = (
    ("fashion-mnist", 0.1),
    ("breastmnist", 0.5),
    ("tops", 0.5),
    ("fashion-mnist", 0.5),
    ("mnist", 0.1),
    ("breastmnist-kept", 0.5),
    ("tops", 100.0),
)


def all_cells() -> list[Cell]:
    """Return every cell, one kind after the other."""
    return [Cell(data, alpha, seed) for data, alpha in _KINDS for seed in SEEDS]


def _recipe_of_breastmnist() -> dict[str, OptionValue]:
    """Return how the recipe trains the classifier."""
    recipe = tomllib.loads((_ROOT / "recipes" / "breastmnist.toml").read_text(encoding="utf-8"))
    wanted = dict(flatten(recipe))
    del wanted["classification.baselines"]
    return {name: value for name, value in wanted.items() if name.startswith("classification.")}
