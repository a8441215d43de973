"""The class-conditional U-Net, built from diffusers' blocks."""

from diffusers import UNet2DModel

from fl_app.data.images import DatasetInfo
from fl_app.errors import OptionError

_GROUP_SIZE = 4


def build_unet(
    info: DatasetInfo,
    block_channels: tuple[int, ...],
    layers_per_block: int,
    mid_attention: bool,
    dropout: float = 0.0,
) -> UNet2DModel:
    """Build a U-Net with GroupNorm and one class embedding more than there are classes: the last means "no class".

    Args:
        info: channels, side of the images, and K classes.
        block_channels: channels of each level; between two levels the image is halved.
        layers_per_block: residual layers a level.
        mid_attention: self-attention at the lowest level.
        dropout: share of activations that each residual layer drops in training.

    Raises:
        OptionError: the image cannot be halved as often as there are levels.
    """
    halvings = len(block_channels) - 1
    if info.image_size % 2**halvings:
        fitting = _nearest_multiple(info.image_size, 2**halvings)
        raise OptionError(
            f"Images of {info.image_size} pixels cannot be halved {halvings} times, which "
            f"'diffusion.block-channels' with {len(block_channels)} levels asks for. "
            f"Set 'data.image-size' to {fitting}, or name fewer levels."
        )
    return UNet2DModel(
        sample_size=info.image_size,
        in_channels=info.num_channels,
        out_channels=info.num_channels,
        layers_per_block=layers_per_block,
        block_out_channels=block_channels,
        down_block_types=("DownBlock2D",) * len(block_channels),
        up_block_types=("UpBlock2D",) * len(block_channels),
        norm_num_groups=min(block_channels) // _GROUP_SIZE,
        num_class_embeds=len(info.class_names) + 1,
        add_attention=mid_attention,
        dropout=dropout,
        attention_head_dim=min(32, min(block_channels)),
    )


def no_class(unet: UNet2DModel) -> int:
    """Return the label that stands for "no class"."""
    return int(unet.config.num_class_embeds) - 1


def _nearest_multiple(size: int, factor: int) -> int:
    return max(factor, round(size / factor) * factor)
