import pytest
import torch
from torch import Tensor, nn

from benchmarks.sampler_texture import sampled_std
from fl_app.data.images import DatasetInfo
from fl_app.diffusion.process import alphas, noise_schedule
from fl_app.diffusion.sampling import build_sampler, sample, steps_of
from fl_app.diffusion.unet import build_unet
from fl_app.plugins import built_in
from fl_app.seeding import generator_for
from tests.options import run_config

INFO = DatasetInfo(("a", "b", "c"), 1, 8)


class KnowsTheImage(nn.Module):
    """The perfect model of a set that holds one image for each class: it predicts v exactly."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images
        self.alpha_of = alphas(noise_schedule(1000))
        self.config = type(
            "Config", (), {"num_class_embeds": len(images), "in_channels": 1, "sample_size": images.shape[-1]}
        )()

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor, return_dict: bool) -> tuple[Tensor]:
        alpha = self.alpha_of[t]
        sigma = (1 - alpha**2).sqrt()
        x0 = self.images[class_labels]
        eps = (x - alpha * x0) / sigma
        return (alpha * eps - sigma * x0,)


@pytest.mark.parametrize("name", built_in("samplers"))
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_every_sampler_finds_the_image_that_a_perfect_model_knows(name: str, guidance: float) -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 1, 8, 8).mul(1.6).sub(0.8).repeat(3, 1, 1, 1)
    model = KnowsTheImage(images)
    generators = [generator_for(0, "sample", k, "x") for k in range(2)]
    drawn = sample(model, build_sampler(name, noise_schedule(1000)), torch.tensor([0, 1]), generators, 20, guidance)
    assert (drawn - images[:2]).abs().max() < 0.02


@pytest.mark.parametrize("name", built_in("samplers"))
def test_an_image_does_not_depend_on_the_batch_it_is_drawn_in(name: str) -> None:
    torch.manual_seed(0)
    unet = build_unet(INFO, (8, 8), 1, False).eval()
    labels = torch.tensor([0, 1, 2])
    together = sample(unet, build_sampler(name, noise_schedule(1000)), labels, draws(3), 4, 2.0)
    for k, generator in enumerate(draws(3)):
        alone = sample(unet, build_sampler(name, noise_schedule(1000)), labels[k : k + 1], [generator], 4, 2.0)
        torch.testing.assert_close(alone[0], together[k], rtol=1e-4, atol=1e-4)


def draws(count: int) -> list[torch.Generator]:
    return [generator_for(0, "sample", k, "x") for k in range(count)]


@pytest.mark.parametrize("name", built_in("samplers"))
@pytest.mark.parametrize("num_timesteps", [2, 3, 5, 8, 12, 20, 23, 50])
def test_every_sampler_draws_at_its_own_steps_however_few_noise_levels_there_are(name: str, num_timesteps: int) -> None:
    torch.manual_seed(0)
    unet = build_unet(INFO, (8, 8), 1, False).eval()
    sampler = build_sampler(name, noise_schedule(num_timesteps))
    drawn = sample(unet, sampler, torch.tensor([0]), draws(1), steps_of(name, 0, num_timesteps))
    assert drawn.isfinite().all()


@pytest.mark.parametrize("name", built_in("samplers"))
def test_images_of_two_generators_differ_and_lie_in_range(name: str) -> None:
    torch.manual_seed(0)
    unet = build_unet(INFO, (8, 8), 1, False).eval()
    drawn = sample(unet, build_sampler(name, noise_schedule(1000)), torch.tensor([0, 0]), draws(2), 3, 1.0)
    assert not torch.equal(drawn[0], drawn[1])
    assert drawn.min() >= -1 and drawn.max() <= 1


@pytest.mark.parametrize("std", [0.2, 0.1, 0.05])
def test_the_recommended_sampler_keeps_fine_texture_at_its_own_number_of_steps(std: float) -> None:
    name = "dpm-solver++"
    found, _ = sampled_std(name, steps_of(name, 0, 1000), std)
    assert found == pytest.approx(std, rel=0.05)
    assert run_config().sampling.sampler == name and run_config().sampling.num_steps == 0


@pytest.mark.parametrize(
    ("name", "num_timesteps", "steps"), [("ddim", 1000, 100), ("ddim", 150, 75), ("ancestral", 50, 50)]
)
def test_a_samplers_own_number_of_steps_fits_the_noise_levels(name: str, num_timesteps: int, steps: int) -> None:
    assert steps_of(name, 0, num_timesteps) == steps
