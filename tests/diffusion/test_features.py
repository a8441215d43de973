"""Features of a U-Net's middle block: of an image and the weights, and of nothing else."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.diffusion.features import middle_features
from fl_app.diffusion.process import noise_schedule
from fl_app.diffusion.unet import build_unet

CPU = torch.device("cpu")
SCHEDULE = noise_schedule(1000)


def images(number: int, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (number, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(number) % 3, ("a", "b", "c"))


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    torch.manual_seed(0)
    return build_unet(DatasetInfo(("a", "b", "c"), 1, 8), (8, 16), 1, mid_attention=True, dropout=0.5)


def features(unet: UNet2DModel, of: ImageSet, batch_size: int = 128) -> np.ndarray:
    found = middle_features(unet, of, SCHEDULE, CPU, batch_size)
    assert found is not None
    return found


@pytest.mark.parametrize("batch_size", [1, 4, 10, 11])
def test_they_do_not_depend_on_the_batch_or_on_the_other_images(unet: UNet2DModel, batch_size: int) -> None:
    unet.train()  # dropout must be off all the same
    whole = features(unet, images(10))
    assert whole.shape == (10, 16) and whole.std(axis=0).min() > 0
    np.testing.assert_allclose(features(unet, images(10), batch_size), whole, atol=1e-6)
    np.testing.assert_allclose(features(unet, images(10).select(torch.tensor([7, 2]))), whole[[7, 2]], atol=1e-6)


def test_they_do_not_depend_on_the_label(unet: UNet2DModel) -> None:
    one = images(6)
    other = ImageSet(one.images, one.labels.flip(0), one.class_names)
    assert np.array_equal(features(unet, one), features(unet, other))


def test_zero_images_have_as_many_features(unet: UNet2DModel) -> None:
    assert features(unet, images(0)).shape == (0, 16)


def test_a_network_without_a_middle_block_or_with_numbers_that_are_not_finite_has_none(unet: UNet2DModel) -> None:
    broken = build_unet(DatasetInfo(("a", "b", "c"), 1, 8), (8, 16), 1, mid_attention=False)
    with torch.no_grad():
        next(iter(broken.parameters())).fill_(float("nan"))
    assert middle_features(broken, images(3), SCHEDULE, CPU) is None
    broken.mid_block = None
    assert middle_features(broken, images(3), SCHEDULE, CPU) is None


def test_no_hook_is_left_behind(unet: UNet2DModel) -> None:
    features(unet, images(2))
    assert unet.mid_block is not None and not unet.mid_block._forward_hooks
