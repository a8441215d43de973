"""The task `classification`: a classifier of images, with prototypes exchanged in the last round."""

import functools
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fl_app.classification.heads import from_arrays
from fl_app.classification.left_out import measure_left_out
from fl_app.classification.measuring import MEASURED_WITH, HeadSet, embeddings, measure_heads
from fl_app.classification.moments import measure_moments
from fl_app.classification.network import Classifier, build_network
from fl_app.classification.selection import PrototypeMethod
from fl_app.data.images import Batch, DatasetInfo, ImageSet
from fl_app.data.loading import augment
from fl_app.metrics.classification import blank_scores, figures, score_fault, score_sums
from fl_app.metrics.further import blank_further, further_figures, further_sums
from fl_app.options.run import PassPlan, RunConfig
from fl_app.options.training import ClassificationOptions
from fl_app.sums import Sums, differing_images, mean


class ClassificationTask:
    """A classifier whose last layer can be replaced by class prototypes (Qiao et al. 2023)."""

    name = "classification"

    def __init__(self, plan: PassPlan, info: DatasetInfo) -> None:
        self.plan = plan
        self.options = cast(ClassificationOptions, plan.options)
        self.info = info

    @classmethod
    def of_run(cls, plan: PassPlan, _config: RunConfig, info: DatasetInfo) -> "ClassificationTask":
        """Build the task, or one of its baselines."""
        return cls(plan, info)

    @functools.cached_property
    def method(self) -> PrototypeMethod:
        """How prototypes are exchanged, and which head ships."""
        options, baseline = self.options, self.plan.baseline
        return PrototypeMethod(
            num_classes=len(self.info.class_names),
            embedding_size=self.build_model().embedding_size,
            rounds=options.exchange_rounds,
            readings=options.readings if not baseline else () if self.plan.is_alone else ("consistent",),
            shipped_reading="consistent" if baseline else options.readings[0],
            is_alone=self.plan.is_alone,
            shrinkage=options.shrinkage,
            prior=options.prior,
            head=options.head,
            further_heads=options.further_heads,
            metrics=options.metrics,
            choose_by=options.choose_by,
            choose_confidence=options.choose_confidence,
            abstain_by=options.abstain_by,
            abstain_quantile=options.abstain_quantile,
        )

    def build_model(self) -> Classifier:
        """Build the network."""
        return build_network(self.info, self.options.network, self.options.embedding_size)

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Augment the images."""
        return Batch(augment(batch.images, self.options.augment, generator), batch.labels)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of each image: [B]."""
        smoothing = self.options.label_smoothing
        return functional.cross_entropy(
            model(batch.images).float(), batch.labels, reduction="none", label_smoothing=smoothing
        )

    def measure(
        self, model: nn.Module, images: ImageSet, device: torch.device, generator: torch.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Return the sums of the network's own last layer: see `metrics.classification.score_sums`."""
        sums = self.blank_sums()
        network = cast(Classifier, model)
        weight = network.linear.weight.detach().double().cpu().numpy()
        bias = network.linear.bias.detach().double().cpu().numpy()
        for features, labels in embeddings(network, images, device):
            scores = features @ weight.T + bias
            found = score_sums(scores, labels) | further_sums(self.options.metrics, scores, labels)
            for key, value in found.items():
                sums[key] += value
        return sums

    def blank_sums(self) -> dict[str, NDArray[np.float64]]:
        """Return the sums of `measure` for zero images."""
        num_classes = len(self.info.class_names)
        return blank_scores(num_classes) | blank_further(self.options.metrics, num_classes)

    def fault_of(self, models: Mapping[str, Sums], held_out: Sequence[int] | None) -> str | None:
        """Return what is wrong with a site's sums; None if its held-out images could have produced them."""
        faults = [score_fault(sums, held_out) for sums in models.values()]
        faults.append(differing_images(sums["confusion"].sum(axis=1) for sums in models.values()))
        return next((fault for fault in faults if fault), None)

    def loss_of(self, sums: Sums) -> float | None:
        """Return the mean negative log-likelihood of the right class."""
        return mean(float(sums["nll"]), float(sums["nll-count"]))

    def figures(self, sums: Sums) -> dict[str, float | None]:
        """Return accuracy, balanced accuracy, AUC, macro F1, and the figures that the option `metrics` names."""
        found = figures(sums)
        plain = {name: found[name] for name in ("accuracy", "balanced-accuracy", "auc", "macro-f1")}
        return plain | further_figures(sums)

    def improved(self, before: Sums, after: Sums, shipped_accuracy: float | None = None) -> bool | None:
        """Return whether loss or accuracy improved, with the head that ships if there is one.

        After few rounds on skewed nodes, prototypes may be good although the averaged layer is no better than an
        untrained one.
        """
        loss = (self.loss_of(before), self.loss_of(after))
        accuracy = (self.figures(before)["accuracy"], self.figures(after)["accuracy"])
        if loss[0] is None or loss[1] is None or accuracy[0] is None or accuracy[1] is None:
            return None
        return loss[1] < loss[0] or max(accuracy[1], shipped_accuracy or 0.0) > accuracy[0]

    def own_sums(
        self, model: nn.Module, images: ImageSet, device: torch.device, round_number: int, min_class_count: int
    ) -> dict[str, NDArray[np.float64]]:
        """Measure the moments of the node's own trained network; empty if the round or the readings need none."""
        if not self.method.uses_own_networks or round_number not in self.method.rounds:
            return {}
        found = measure_moments(cast(Classifier, model), images, device, min_class_count)
        return {f"own/{key}": value for key, value in found.items()}

    def moments(
        self, weights: Mapping[str, Tensor], images: ImageSet, device: torch.device, min_class_count: int
    ) -> dict[str, NDArray[np.float64]]:
        """Measure the moments of received weights on training images."""
        return measure_moments(self._network(weights, device), images, device, min_class_count)

    def measure_heads(
        self,
        weights: Mapping[str, Tensor],
        own: Mapping[str, Tensor] | None,
        heads: HeadSet,
        images: Mapping[str, ImageSet],
        device: torch.device,
        fewest_patients: int,
    ) -> dict[str, NDArray[np.float64]]:
        """Measure all heads on a node's images: see `measuring.measure_heads`."""
        averaged = self._network(weights, device)
        trained = self._network(own, device) if own is not None else None
        readings = self.method.measured_readings
        return measure_heads(averaged, trained, heads, readings, images, device, fewest_patients, self.options.metrics)

    def measure_left_out(
        self,
        weights: Mapping[str, Tensor],
        heads: HeadSet,
        left_out: Mapping[str, NDArray[np.generic]],
        images: ImageSet,
        device: torch.device,
        fewest: int,
    ) -> dict[str, NDArray[np.float64]]:
        """Measure heads that were built without a node's moments: see `left_out.measure_left_out`."""
        names = heads.heads[MEASURED_WITH[self.method.shipped_reading]]
        return measure_left_out(from_arrays(left_out), names, self._network(weights, device), images, device, fewest)

    def _network(self, weights: Mapping[str, Tensor], device: torch.device) -> Classifier:
        network = self.build_model()
        network.load_state_dict(dict(weights))
        network.to(device)
        return network.to(memory_format=torch.channels_last)
