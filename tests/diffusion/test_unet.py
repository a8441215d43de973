import pytest
import torch
from torch import nn

from fl_app.data.images import DatasetInfo
from fl_app.diffusion.unet import build_unet
from fl_app.errors import OptionError


@pytest.mark.parametrize("channels", [1, 3])
def test_the_output_has_the_shape_of_the_input(channels: int) -> None:
    unet = build_unet(DatasetInfo(("a", "b"), channels, 8), (8, 16), 1, True)
    x = torch.zeros(2, channels, 8, 8)
    assert unet(x, torch.tensor([1, 2]), class_labels=torch.tensor([0, 2])).sample.shape == x.shape


def test_no_layer_keeps_statistics_of_a_nodes_images() -> None:
    unet = build_unet(DatasetInfo(("a", "b"), 1, 8), (8, 16), 1, True)
    assert not [m for m in unet.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert dict(unet.named_buffers()) == {}


def test_a_size_that_cannot_be_halved_is_refused_with_one_that_can() -> None:
    with pytest.raises(OptionError, match=r"15 pixels cannot be halved 1 times.*'data.image-size' to 16"):
        build_unet(DatasetInfo(("a",), 1, 15), (8, 16), 1, False)
