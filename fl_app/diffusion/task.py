"""The task `diffusion`: a model that draws images of each class."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import UNet2DModel
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_app.accumulation import compute_in_pieces
from fl_app.data.images import Batch, DatasetInfo, ImageSet
from fl_app.data.loading import augment, iterate, to_bytes
from fl_app.diffusion.features import middle_features
from fl_app.diffusion.membership import score_histograms
from fl_app.diffusion.pictures import save_gallery
from fl_app.diffusion.pipeline import ClassConditionalPipeline, on_best_device
from fl_app.diffusion.process import (
    NUM_BANDS,
    NoisyBatch,
    alphas,
    band_of,
    denoising_losses,
    draw_noise,
    noise_schedule,
)
from fl_app.diffusion.unet import unet_by_name
from fl_app.files import write_manifest
from fl_app.metrics.classification import MOST_NATS
from fl_app.options.run import PassPlan, RunConfig
from fl_app.options.training import DiffusionOptions, SamplingOptions, TrainingOptions
from fl_app.sums import ROUNDING, Sums, are_counts, differing_images, mean

_MEASURED_AT_LEAST = 32  # draws of noise in a node's measurement, if it has any image
_MEASURED_AT_MOST = 1024
_MEASURE_BATCH = 128


class DiffusionTask:
    """A class-conditional diffusion model of the images (Ho et al. 2020; Tun et al. 2023)."""

    name = "diffusion"

    def __init__(self, options: DiffusionOptions, sampling: SamplingOptions, info: DatasetInfo, seed: int) -> None:
        self.options: TrainingOptions = options
        self.diffusion = options
        self.sampling = sampling
        self.info = info
        self.seed = seed
        self.schedule = noise_schedule(options.num_timesteps)

    @classmethod
    def of_run(cls, plan: PassPlan, config: RunConfig, info: DatasetInfo) -> "DiffusionTask":
        """Build the task of a run."""
        return cls(cast(DiffusionOptions, plan.options), config.sampling, info, config.seed)

    def build_model(self) -> UNet2DModel:
        """Build the U-Net."""
        return unet_by_name(self.diffusion.network, self.info, self.diffusion)

    def draw(self, batch: Batch, generator: torch.Generator) -> NoisyBatch:
        """Augment the images, and draw their noise."""
        images = augment(batch.images, self.diffusion.augment, generator)
        noise = draw_noise(batch, self.diffusion.num_timesteps, self.diffusion.label_dropout, generator)
        return NoisyBatch(images, batch.labels, noise)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the weighted v-loss of each image of a batch from `draw`: [B]."""
        alpha_of = alphas(self.schedule, batch.images.device)
        return denoising_losses(cast(UNet2DModel, model), cast(NoisyBatch, batch), alpha_of, self.diffusion.loss_weight)

    @torch.no_grad()
    def measure(
        self, model: nn.Module, images: ImageSet, device: torch.device, generator: torch.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Sum the denoising loss of held-out images per noise band, always as the error in eps.

        The images are shuffled: files are often sorted by class, and noise levels rise along a batch.

        Returns:
            `loss-sum` and `loss-count`, [NUM_BANDS] float64. Few images are measured under several draws of noise,
            which lowers the variance; of many images, `_MEASURED_AT_MOST` evenly spaced ones are measured. Losses are
            clipped to MOST_NATS.
        """
        blank = self.blank_sums()
        if len(images) == 0:
            return blank
        sums, counts = blank["loss-sum"], blank["loss-count"]
        positions = torch.linspace(0, len(images) - 1, min(len(images), _MEASURED_AT_MOST)).long()
        positions = positions.repeat(math.ceil(_MEASURED_AT_LEAST / len(positions)))
        order = torch.randperm(len(positions), generator=generator, device=generator.device).cpu()
        chosen = images.select(positions[order])
        alpha_of = alphas(self.schedule, device)
        model.eval()
        for batch in iterate(chosen, _MEASURE_BATCH, device):
            noise = draw_noise(batch, self.diffusion.num_timesteps, 0.0, generator)
            noisy = NoisyBatch(batch.images, batch.labels, noise)

            def losses_of(part: slice, noisy: NoisyBatch = noisy) -> Tensor:
                return denoising_losses(cast(UNet2DModel, model), noisy[part], alpha_of).double().clamp(max=MOST_NATS)

            losses = compute_in_pieces(losses_of, len(batch))
            bands = band_of(noise.timesteps, self.diffusion.num_timesteps).cpu()
            sums += torch.bincount(bands, weights=losses, minlength=NUM_BANDS).numpy()
            counts += torch.bincount(bands, minlength=NUM_BANDS).numpy()
        return {"loss-sum": sums, "loss-count": counts}

    def membership(
        self, weights: Mapping[str, Tensor], parts: Mapping[str, ImageSet], device: torch.device, most: int
    ) -> dict[str, NDArray[np.float64]]:
        """Count images by how well the weights know them, as `score_histograms`."""
        model = self.build_model().to(device)
        model.load_state_dict(dict(weights))
        return score_histograms(model, parts, self.schedule, device, most)

    def middle_features(self, model: nn.Module, images: ImageSet, device: torch.device) -> NDArray[np.float64] | None:
        """Return features by the U-Net's middle block, as `features.middle_features`; `model`: on the device."""
        return middle_features(cast(UNet2DModel, model), images, self.schedule, device)

    def blank_sums(self) -> dict[str, NDArray[np.float64]]:
        """Return the sums of `measure` for zero images."""
        return {"loss-sum": np.zeros(NUM_BANDS), "loss-count": np.zeros(NUM_BANDS)}

    def fault_of(self, models: Mapping[str, Sums], held_out: Sequence[int] | None) -> str | None:
        """Return what is wrong with a site's sums; None if its held-out images could have produced them."""
        num_draws = None if held_out is None else float(_num_draws(sum(held_out)))
        faults = [loss_fault(sums, num_draws) for sums in models.values()]
        faults.append(differing_images(sums["loss-count"] for sums in models.values()))
        return next((fault for fault in faults if fault), None)

    def loss_of(self, sums: Sums) -> float | None:
        """Return the mean denoising loss over all images and noise levels."""
        return mean(float(sums["loss-sum"].sum()), float(sums["loss-count"].sum()))

    def figures(self, sums: Sums) -> dict[str, float | None]:
        """Return the mean denoising loss per noise band, band 0 with the least noise."""
        pairs = zip(sums["loss-sum"], sums["loss-count"], strict=True)
        return {f"loss-band-{band}": mean(total, count) for band, (total, count) in enumerate(pairs)}

    def improved(self, before: Sums, after: Sums) -> bool | None:
        """Return whether the denoising loss fell."""
        loss = (self.loss_of(before), self.loss_of(after))
        return None if loss[0] is None or loss[1] is None else loss[1] < loss[0]

    def show(self, models: Mapping[str, nn.Module], path: Path) -> None:
        """Draw `images-per-class` images of every class from each model: rows are classes, models side by side."""
        num_classes, columns = len(self.info.class_names), self.sampling.images_per_class
        classes = [label for label in range(num_classes) for _ in range(columns)]
        drawn = {
            title: (drawn := self._pipeline(model)(classes, seed=self.seed)).reshape(
                num_classes, columns, *drawn.shape[1:]
            )
            for title, model in models.items()
        }
        save_gallery(drawn, self.info.class_names, path)

    def draw_images(
        self, model: nn.Module, labels: NDArray[np.int64], first_image: int = 0, seed: int | None = None
    ) -> ImageSet | None:
        """Draw an image of each label, [N]; None if they are not finite numbers.

        Args:
            model: the U-Net; it is moved to the GPU if there is one.
            labels: [N].
            first_image: position of the first one, to continue an earlier call.
            seed: None: the run's.
        """
        seed = self.seed if seed is None else seed
        drawn = self._pipeline(model)([int(label) for label in labels], seed=seed, first_image=first_image)
        if not bool(torch.isfinite(drawn).all()):
            return None
        return ImageSet(to_bytes(drawn), torch.from_numpy(labels), self.info.class_names)

    def export(self, model: nn.Module, folder: Path, held: list[bool]) -> None:
        """Write a diffusers folder that `ClassConditionalPipeline.from_pretrained` opens."""
        self._pipeline(model, held).save_pretrained(folder, safe_serialization=True)
        write_manifest(folder)

    def _pipeline(self, model: nn.Module, held: list[bool] | None = None) -> ClassConditionalPipeline:
        pipeline = ClassConditionalPipeline(
            unet=cast(UNet2DModel, model),
            scheduler=self.schedule,
            id2label={str(number): name for number, name in enumerate(self.info.class_names)},
            held={str(number): flag for number, flag in enumerate(held)} if held else None,
            sampler=self.sampling.sampler,
            num_steps=self.sampling.num_steps,
            guidance_scale=self.sampling.guidance_scale,
        )
        return on_best_device(pipeline)


def _num_draws(num_images: int) -> int:
    """Return how many losses `DiffusionTask.measure` takes of this many images."""
    chosen = min(num_images, _MEASURED_AT_MOST)
    return chosen * math.ceil(_MEASURED_AT_LEAST / chosen) if chosen else 0


def loss_fault(sums: Sums, num_draws: float | None) -> str | None:
    """Return what is wrong with sums of denoising losses; None if images could have produced them.

    Args:
        sums: `loss-sum` and `loss-count`, of the same length.
        num_draws: the largest number of losses that the site's held-out images have; None: unknown.
    """
    total, count = sums["loss-sum"], sums["loss-count"]
    if not are_counts(count):
        return "its counts 'loss-count' are not whole numbers of at least 0"
    if num_draws is not None and count.sum() > num_draws:
        return "it measured more held-out images than it said it holds"
    if (total < 0).any() or (total > count * MOST_NATS * (1.0 + ROUNDING)).any():
        return "its losses are negative, or larger than any that are counted"
    return None
