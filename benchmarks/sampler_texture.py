"""How much fine texture a sampler keeps: samples of Gaussian pixels, by the exact denoiser.

The pixels are independent and normal with mean 0 and a known std, in images of -1 to 1. A sampler without error returns
the same std: a smaller one is lost texture, a larger one added noise. No trained model takes part. Step counts that a
pipeline refuses (ddim: those that do not divide 1000) are measured as well.
"""

import argparse
from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from benchmarks.output import Row, parser, run
from fl_app.diffusion.process import alphas, noise_schedule
from fl_app.diffusion.sampling import build_sampler, sample, steps_of
from fl_app.plugins import built_in
from fl_app.seeding import generator_for

_NUM_TIMESTEPS = 1000


class KnowsTheTexture(nn.Module):
    """The exact denoiser of images whose pixels are independent N(0, std^2); it predicts v.

    E[x | x_t] = alpha std^2 x_t / (alpha^2 std^2 + sigma^2), and v = alpha eps - sigma x.

    Args:
        std: of the pixels.
        side: height and width of the images.
    """

    def __init__(self, std: float, side: int) -> None:
        super().__init__()
        self.std = std
        self.alpha_of = alphas(noise_schedule(_NUM_TIMESTEPS))
        self.config = SimpleNamespace(num_class_embeds=2, in_channels=1, sample_size=side)
        self.num_evaluations = 0

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor, return_dict: bool) -> tuple[Tensor]:
        """Return the expected v of x at timestep t, [B, 1, side, side] both, as a U-Net does."""
        self.num_evaluations += 1
        alpha = self.alpha_of[t.long()]
        sigma = (1.0 - alpha**2).sqrt()
        x_0 = alpha * self.std**2 * x / (alpha**2 * self.std**2 + sigma**2)
        eps = (x - alpha * x_0) / sigma
        return (alpha * eps - sigma * x_0,)


def sampled_std(sampler: str, num_steps: int, std: float, num_images: int = 16, side: int = 64) -> tuple[float, int]:
    """Draw images of Gaussian pixels and return their std and the number of evaluations.

    The pixels' number N = num_images side^2 fixes the std's relative error: (2 N)^-1/2, 0.3 % by default.

    Args:
        sampler: its name.
        num_steps: denoising steps.
        std: of the true pixels, in images of -1 to 1.
        num_images: images to draw.
        side: their height and width.
    """
    model = KnowsTheTexture(std, side)
    generators = [generator_for(0, "sample", number, "texture") for number in range(num_images)]
    labels = torch.zeros(num_images, dtype=torch.int64)
    drawn = sample(model, build_sampler(sampler, noise_schedule(_NUM_TIMESTEPS)), labels, generators, num_steps)
    return float(drawn.std()), model.num_evaluations


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each sampler, step count and true std."""
    for sampler in arguments.sampler:
        for steps in arguments.steps or [steps_of(sampler, 0, _NUM_TIMESTEPS)]:
            for true in arguments.std:
                found, evaluations = sampled_std(sampler, steps, true)
                yield {
                    "sampler": sampler,
                    "steps": steps,
                    "evaluations": evaluations,
                    "true std": true,
                    "sampled std": found,
                    "ratio": found / true,
                }


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--sampler", nargs="+", choices=built_in("samplers"), default=built_in("samplers"), help="default: all"
    )
    arguments.add_argument("--steps", nargs="+", type=int, help="(default: each sampler's own)")
    arguments.add_argument("--std", nargs="+", type=float, default=[0.2, 0.1, 0.05], help="(default: 0.2 0.1 0.05)")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
