"""A task: an autoencoder, which learns to describe an image by few numbers and to restore it from them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_app.data.images import Batch, DatasetInfo, ImageSet
from fl_app.data.loading import iterate
from fl_app.options.run import PassPlan, RunConfig
from fl_app.sums import Sums, mean


class Autoencoder:
    """Trains by the options in the section `plugin-task`; `settings` is the number of values that describe an image."""

    name = "autoencoder"

    def __init__(self, plan: PassPlan, config: RunConfig, info: DatasetInfo) -> None:
        self.options = plan.options
        self.size = int(config.plugin_task.settings or 16)
        self.num_pixels = info.num_channels * info.image_size**2

    def build_model(self) -> nn.Module:
        """Build the network, [B, C, H, W] to [B, C * H * W]."""
        return nn.Sequential(
            nn.Flatten(), nn.Linear(self.num_pixels, self.size), nn.ReLU(), nn.Linear(self.size, self.num_pixels)
        )

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch as it is: nothing is random."""
        return batch

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean squared error of each image: [B]."""
        losses: Tensor = ((model(batch.images) - batch.images.flatten(1)) ** 2).mean(1)
        return losses

    @torch.no_grad()
    def measure(
        self, model: nn.Module, images: ImageSet, device: torch.device, generator: torch.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Add up the errors of held-out images."""
        total = self.blank_sums()
        for batch in iterate(images, 256, device):
            total["squares"] += self.losses(model.eval(), batch).double().sum().item()
            total["count"] += len(batch)
        return total

    def blank_sums(self) -> dict[str, NDArray[np.float64]]:
        """Return the sums of zero images."""
        return {"squares": np.zeros(()), "count": np.zeros(())}

    def fault_of(self, models: Mapping[str, Sums], held_out: Sequence[int] | None) -> str | None:
        """Reject negative errors, and more images than the site described."""
        most = np.inf if held_out is None else sum(held_out)
        for sums in models.values():
            if sums["squares"] < 0 or not 0 <= sums["count"] <= most:
                return "its errors are negative, or of more images than it said it holds"
        return None

    def loss_of(self, sums: Sums) -> float | None:
        """Return the mean squared error."""
        return mean(float(sums["squares"]), float(sums["count"]))

    def figures(self, sums: Sums) -> dict[str, float | None]:
        """Return the error in grey levels, 0 to 255."""
        loss = self.loss_of(sums)
        return {"grey-levels": None if loss is None else 127.5 * loss**0.5}

    def improved(self, before: Sums, after: Sums) -> bool | None:
        """Tell whether the error fell."""
        losses = (self.loss_of(before), self.loss_of(after))
        return None if losses[0] is None or losses[1] is None else losses[1] < losses[0]
