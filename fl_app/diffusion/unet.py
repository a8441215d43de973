"""The class-conditional U-Nets, built from diffusers' blocks."""

from collections.abc import Callable
from typing import Any

from diffusers import ConfigMixin, ModelMixin, UNet2DModel

from fl_app.data.images import DatasetInfo
from fl_app.errors import OptionError
from fl_app.options.training import DiffusionOptions
from fl_app.plugins import PluginError, load

_GROUP_SIZE = 4

# Builds a U-Net from what is known of the images and the options of `diffusion`: a plug-in of `fl_app.unets`. It is a
# model of diffusers that is called as a UNet2DModel is, (x [B, C, H, W], timesteps [B], class_labels=[B] int64 in
# [0, K]), K standing for "no class", and predicts v, [B, C, H, W]; its config holds what a UNet2DModel's does. A class
# of its own stands in the same module as the function, by which an exported folder finds it.
BuildUNet = Callable[[DatasetInfo, DiffusionOptions], UNet2DModel]


def unet_by_name(name: str, info: DatasetInfo, options: DiffusionOptions) -> UNet2DModel:
    """Build a U-Net.

    Args:
        name: built in or a plug-in.
        info: channels, side of the images, and K classes.
        options: of the task.

    Raises:
        OptionError: the images do not fit it, or the name stands for nothing that may be used.
    """
    build: BuildUNet = load("unets", name, "diffusion.network")
    found: Any = build(info, options)
    if not isinstance(found, ModelMixin) or not isinstance(found, ConfigMixin):
        raise PluginError(f"The U-Net '{name}' must be a model of diffusers, got {type(found).__name__}.")
    expected = {
        "sample_size": info.image_size,
        "in_channels": info.num_channels,
        "num_class_embeds": len(info.class_names) + 1,
    }
    for key, value in expected.items():
        if found.config.get(key) != value:
            raise PluginError(f"The config of the U-Net '{name}' must say {key}={value}, got {found.config.get(key)}.")
    module = type(found).__module__
    if module.partition(".")[0] != "diffusers" and module != build.__module__:
        raise PluginError(
            f"The class {type(found).__name__} of the U-Net '{name}' must stand in the module of its function, "
            f"{build.__module__}, got {module}."
        )
    return found


def plain_unet(info: DatasetInfo, options: DiffusionOptions) -> UNet2DModel:
    """Build the U-Net that the options describe."""
    return build_unet(info, options.block_channels, options.layers_per_block, options.mid_attention, options.dropout)


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
        fitting = max(1, round(info.image_size / 2**halvings)) * 2**halvings
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
