"""A U-Net that treats an image and its mirror image alike."""

from diffusers import UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from fl_app.data.images import DatasetInfo
from fl_app.options.training import DiffusionOptions


class MirroredUNet(UNet2DModel):  # type: ignore[misc]
    """Averages what it predicts for an image and for its mirror image."""

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> UNet2DOutput | tuple[Tensor]:
        """Predict v, [B, C, H, W], of noisy images."""
        plain = super().forward(sample, timestep, class_labels, return_dict=False)[0]
        mirrored = super().forward(sample.flip(-1), timestep, class_labels, return_dict=False)[0].flip(-1)
        v = (plain + mirrored) / 2
        return UNet2DOutput(sample=v) if return_dict else (v,)


def build(info: DatasetInfo, options: DiffusionOptions) -> MirroredUNet:
    """Build the U-Net; the last of its class embeddings means "no class"."""
    levels = len(options.block_channels)
    return MirroredUNet(
        sample_size=info.image_size,
        in_channels=info.num_channels,
        out_channels=info.num_channels,
        block_out_channels=options.block_channels,
        layers_per_block=options.layers_per_block,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        norm_num_groups=2,
        num_class_embeds=len(info.class_names) + 1,
    )
