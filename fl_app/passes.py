"""The trainings of a run: which task, by which strategy, and what each one leaves."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

from fl_app.classification.model import ClassifierModel, write_classifier
from fl_app.classification.selection import HeadRow, withheld
from fl_app.classification.task import ClassificationTask
from fl_app.data.images import DatasetInfo, no_images
from fl_app.files import to_json, write_card, write_manifest
from fl_app.messages.arrays import Weights, to_tensors
from fl_app.metrics.generation import frechet_distance
from fl_app.options.quality import CURVE, FROM_FILE
from fl_app.options.run import PassPlan, RunConfig
from fl_app.quality.drawing import classes_to_draw
from fl_app.quality.features import Pixels, network_of_file, set_features
from fl_app.quality.figures import as_frequent
from fl_app.quality.measuring import group_sums
from fl_app.strategies.diffusion import DiffusionRounds, real_moments
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import Snapshot
from fl_app.strategies.prototypes import Exchange, PrototypeRounds
from fl_app.strategies.quality import Question
from fl_app.strategies.registry import combine
from fl_app.strategies.resilient import Resilient
from fl_app.strategies.setup import Setup
from fl_app.sums import Sums
from fl_app.tasks import Task, build_task

if TYPE_CHECKING:  # importing it costs a node of a classifier seconds
    from fl_app.diffusion.task import DiffusionTask

S = TypeVar("S", bound=Resilient)
Answers = tuple[dict[str, Sums], dict[str, NodeOutcome]]  # what each site sent, and the outcome of each
Gallery = Callable[[Mapping[str, nn.Module], Path], None]


class Pass(ABC, Generic[S]):
    """One training of a run: a task or one of its baselines, by a strategy of the type S.

    Attributes:
        plan: how nodes take part.
        task: what is learned.
        config: options of the run.
        gallery: draws what models can do, side by side; None: nothing to draw.
    """

    task: Task
    gallery: Gallery | None = None

    def __init__(self, plan: PassPlan, config: RunConfig) -> None:
        self.plan = plan
        self.config = config

    @property
    def name(self) -> str:
        """In messages and in the run folder, such as `classification-local`."""
        return self.plan.name

    @property
    def num_rounds(self) -> int:
        """The number of its last round."""
        return self.task.options.num_rounds

    @abstractmethod
    def strategy(self, setup: Setup) -> S:
        """Build the strategy that runs its rounds; `setup`: what the run says."""

    def improved(self, strategy: S, before: Sums, after: Sums) -> bool | None:
        """Tell whether a model got better.

        Args:
            strategy: that has trained it.
            before: sums of the untrained model.
            after: sums of the trained one, on the same images.

        Returns:
            None if nothing was measured.
        """
        return self.task.improved(before, after)

    def ask_membership(self, strategy: S, grid: Any, weights: Weights) -> Answers | None:
        """Let the nodes count images by how well weights know them; None: this pass has no audit.

        Args:
            strategy: that has trained it.
            grid: Flower's connection to the nodes.
            weights: that are to be exported.
        """
        return None

    @abstractmethod
    def export(self, strategy: S, weights: Weights, held: list[bool], folder: Path) -> None:
        """Write the model for others to use.

        Args:
            strategy: that has trained it.
            weights: the chosen ones.
            held: of each class, whether any node had an image.
            folder: to write into; it is empty.
        """

    def module(self, weights: Weights) -> nn.Module:
        """Return a network with these weights."""
        model = self.task.build_model()
        model.load_state_dict(to_tensors(weights))
        return model

    def drawn(self, after: Snapshot, test_counts: NDArray[np.int64], held: list[bool]) -> dict[str, float]:
        """Return how far images of each set of weights are from the sites' test images; empty: not known.

        Args:
            after: a round.
            test_counts: [K], of all sites.
            held: of each class, whether any site has a training image of it.
        """
        return {}

    def is_kept(self, number: int) -> bool:
        """Tell whether a round ends with a checkpoint."""
        return number % self.config.checkpoint_every == 0 or number == self.num_rounds

    def is_drawn(self, number: int) -> bool:
        """Tell whether a round ends with a gallery."""
        return self.config.gallery_every > 0 and number % self.config.gallery_every == 0


class DiffusionPass(Pass[DiffusionRounds]):
    """Trains a diffusion model."""

    task: "DiffusionTask"

    def __init__(self, plan: PassPlan, config: RunConfig, info: DatasetInfo) -> None:
        super().__init__(plan, config)
        self.task = cast("DiffusionTask", build_task(plan.name, config, info))
        self.gallery = self.task.show
        self.features: nn.Module = Pixels()
        self.question = self._question() if config.has_curve else None

    def strategy(self, setup: Setup) -> DiffusionRounds:
        """Build the strategy; nodes measure the server's EMA in rounds that end with a checkpoint or a gallery."""
        options = self.config.diffusion
        rounds = range(1, self.num_rounds + 1)
        kind, flower = combine(DiffusionRounds, options.strategy, self.config.strategy)
        return kind(
            setup=setup,
            ema_horizon=options.ema_horizon * self.num_rounds,
            ema_rounds=frozenset(number for number in rounds if self.is_kept(number) or self.is_drawn(number)),
            with_node_ema=options.node_ema,
            curve=self.question,
            **flower,
        )

    def ask_membership(self, strategy: DiffusionRounds, grid: Any, weights: Weights) -> Answers | None:
        """Let the nodes count images by how well weights know them; None: the run has no audit."""
        audit = self.config.audit
        numbers = (audit.num_images, audit.copies_images)
        return strategy.ask_membership(grid, self.num_rounds, weights, *numbers) if audit.membership else None

    def drawn(self, after: Snapshot, test_counts: NDArray[np.int64], held: list[bool]) -> dict[str, float]:
        """Return the Fréchet distance of images of each set of weights (Heusel et al. 2017)."""
        real, quality, names = real_moments(after.arrays), self.config.quality, self.task.info.class_names
        labels = classes_to_draw(test_counts, held, quality.curve_images)
        if not real or len(labels) == 0:
            return {}
        found = {}
        for name, weights in after.models.items():
            images = self.task.draw_images(self.module(weights), labels)
            if images is not None:
                features = set_features(self.features, images, torch.device("cpu"))
                sums = group_sums(features, images.labels.numpy(), len(names))
                distance = frechet_distance(real, as_frequent(sums, real))
                if distance is not None:
                    found[name] = distance
        return found

    def _question(self) -> Question:
        """Return what the sites are asked of their real images."""
        quality, file = self.config.quality, None
        if quality.curve in FROM_FILE:
            self.features, file = network_of_file(quality.network_file, quality.curve)
        nothing = no_images(self.task.info)
        return Question(
            measured=CURVE,
            last_round=self.num_rounds,
            images=nothing,
            num_features=set_features(self.features, nothing, torch.device("cpu")).shape[1],
            neighbours=quality.neighbours,
            largest=1.0 if quality.curve == "pixels" else math.inf,
            network_file=file,
        )

    def export(self, strategy: DiffusionRounds, weights: Weights, held: list[bool], folder: Path) -> None:
        """Write a diffusers folder."""
        use = "`fl-app sample <this folder>` draws images of its classes; diffusers opens it, too."
        write_card(folder, "Diffusion model", use, self.config.export.licence)
        self.task.export(self.module(weights), folder, held)


class ClassificationPass(Pass[PrototypeRounds]):
    """Trains a classifier, or one of its baselines, and exchanges prototypes."""

    task: ClassificationTask

    def __init__(self, plan: PassPlan, config: RunConfig, info: DatasetInfo) -> None:
        super().__init__(plan, config)
        self.task = cast(ClassificationTask, build_task(plan.name, config, info))

    def strategy(self, setup: Setup) -> PrototypeRounds:
        """Build the strategy, which exchanges prototypes."""
        kind, flower = combine(PrototypeRounds, self.task.options.strategy, self.config.strategy)
        return kind(setup=setup, method=self.task.method, **flower)

    def improved(self, strategy: PrototypeRounds, before: Sums, after: Sums) -> bool | None:
        """Tell whether loss or accuracy got better, with the head that ships."""
        exchange = strategy.exchanges[self.num_rounds]
        return self.task.improved(before, after, exchange.selection.shipped.accuracy)

    def export(self, strategy: PrototypeRounds, weights: Weights, held: list[bool], folder: Path) -> None:
        """Write weights, prototypes and heads, as `classification.model.read_classifier` opens them."""
        write_classifier(self._classifier(strategy.exchanges[self.num_rounds]), folder)

    def _classifier(self, exchange: Exchange) -> ClassifierModel:
        """Return the classifier that an exchange makes."""
        options, method, selection = self.task.options, self.task.method, exchange.selection
        pooled = exchange.pooled[exchange.source]
        left_out = {site: node.outcome for site, node in sorted(exchange.left_out.items())}
        return ClassifierModel(
            network=options.network,
            embedding_size=options.embedding_size,
            info=self.task.info,
            weights=to_tensors(exchange.weights),
            pooled=pooled,
            heads=exchange.heads.heads["global"] | exchange.heads.heads.get(exchange.source, {}),
            shipped=selection.shipped.head,
            reading=method.shipped_reading,
            shrinkage=method.shrinkage,
            abstain_distance=selection.abstain_distance,
            abstain_picture_distance=selection.abstain_picture_distance,
            prior=method.prior,
            abstain_by="euclid" if exchange.heads.mapped_by is None else "mahalanobis",
            temperatures={
                name.split("/")[1]: value
                for name, value in selection.temperatures.items()
                if name.split("/")[0] in ("global", method.shipped_reading)
            },
            record={
                "licence": self.config.export.licence,
                "round": exchange.round_number,
                "num-sites": len(exchange.contributed),
                "withheld": withheld(self.task.info.class_names, pooled),
                "shipped": to_json(selection.shipped),
                "results": to_json(exchange.results, list[HeadRow]),
                "num-left-out": dict(sorted(Counter(left_out.values()).items())),
                **(
                    {"contributed": exchange.contributed, "left-out": left_out} if self.config.export.site_names else {}
                ),
            },
        )


class PlainPass(Pass[Resilient]):
    """Trains a task of a plug-in, and writes its weights."""

    def __init__(self, plan: PassPlan, config: RunConfig, info: DatasetInfo) -> None:
        super().__init__(plan, config)
        self.task = build_task(plan.name, config, info)

    def strategy(self, setup: Setup) -> Resilient:
        """Build the strategy: weights are averaged, and nothing else is exchanged."""
        kind, flower = combine(Resilient, self.task.options.strategy, self.config.strategy)
        return kind(setup=setup, **flower)

    def export(self, strategy: Resilient, weights: Weights, held: list[bool], folder: Path) -> None:
        """Write `model.safetensors`."""
        use = f"Weights of the task '{self.plan.task}': the code of its plug-in opens them."
        write_card(folder, "Model", use, self.config.export.licence)
        (folder / "model.safetensors").write_bytes(save(to_tensors(weights)))
        write_manifest(folder)


PASSES: dict[str, Callable[[PassPlan, RunConfig, DatasetInfo], Pass[Any]]] = {
    "diffusion": DiffusionPass,
    "classification": ClassificationPass,
}


def build_pass(plan: PassPlan, config: RunConfig, info: DatasetInfo) -> Pass[Any]:
    """Build a pass of a run."""
    return PASSES.get(plan.task, PlainPass)(plan, config, info)
