"""Drawing images from the model: samplers by name, classifier-free guidance, one generator per image."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from torch import Tensor

from fl_app.diffusion.unet import no_class
from fl_app.errors import OptionError
from fl_app.plugins import load


class Sampler(NamedTuple):
    """A way to draw; a plug-in of the group `fl_app.samplers` is one.

    Attributes:
        kind: a diffusers scheduler, or a class with its methods: `from_config`, `set_timesteps`, `timesteps`,
            `init_noise_sigma`, `scale_model_input`, `step`. A `generator` of `step` gets a list, one an image.
        settings: its settings, beside the noise process: betas, and that the network predicts v.
        num_steps: denoising steps unless others are asked for.
        must_divide: the number of steps must divide that of the noise levels, T.
    """

    kind: type[Any]
    settings: Mapping[str, object]
    num_steps: int
    must_divide: bool = False


# With steps even in t the last one is a long jump to a mean over images, which loses fine texture: an exact denoiser
# of pixels with std 0.05 gives 0.017 after 25 steps of DPM-Solver++; with steps even in log SNR (Lu et al. 2022) 0.049.
# `ddim` and `ancestral` have even steps only, and are here for comparison with other work.
DPM_SOLVER = Sampler(
    DPMSolverMultistepScheduler,
    {"algorithm_type": "dpmsolver++", "use_lu_lambdas": True, "final_sigmas_type": "zero"},
    12,
)
DDIM = Sampler(DDIMScheduler, {"clip_sample": True, "timestep_spacing": "trailing"}, 100, must_divide=True)
ANCESTRAL = Sampler(DDPMScheduler, {"clip_sample": True, "timestep_spacing": "trailing"}, 1000)


def sampler_by_name(name: str) -> Sampler:
    """Return the sampler of that name, built in or a plug-in; raises OptionError if there is none that may be used."""
    found: Sampler = load("samplers", name, "sampling.sampler", Sampler)
    return found


def build_sampler(name: str, schedule: DDPMScheduler) -> Any:
    """Build the diffusers scheduler of that name for the noise process the model was trained on."""
    chosen = sampler_by_name(name)
    return chosen.kind.from_config(schedule.config, **chosen.settings)


def steps_of(name: str, num_steps: int, num_timesteps: int) -> int:
    """Return how many denoising steps to take.

    Args:
        name: of the sampler.
        num_steps: as asked for; 0: the sampler's own number, or the nearest below that fits.
        num_timesteps: T of training.

    Raises:
        OptionError: more steps than T, or a number that must divide T and does not.
    """
    chosen = sampler_by_name(name)
    if num_steps == 0:
        own = range(min(chosen.num_steps, num_timesteps), 0, -1)
        return next(steps for steps in own if not chosen.must_divide or num_timesteps % steps == 0)
    if not 1 <= num_steps <= num_timesteps:
        raise OptionError(f"The number of denoising steps must be between 1 and {num_timesteps}, got {num_steps}.")
    if chosen.must_divide and num_timesteps % num_steps:
        raise OptionError(f"The number of denoising steps must divide {num_timesteps} for {name}, got {num_steps}.")
    return num_steps


@torch.no_grad()
def sample(
    unet: UNet2DModel,
    sampler: Any,
    labels: Tensor,
    generators: Sequence[torch.Generator],
    num_steps: int,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Draw one image for each label.

    Args:
        unet: in eval mode, predicts v.
        sampler: from `build_sampler`.
        labels: [B] int64 in [0, K]; K asks for no class.
        generators: one CPU generator per image, so that image k does not depend on the batch it is drawn in.
        num_steps: denoising steps, at most the T of training.
        guidance_scale: s in v_none + s (v_class - v_none), Ho & Salimans 2022 with s = 1 + w; 1 needs no second pass.

    Returns:
        [B, C, H, W] float32 in [-1, 1], on the labels' device.
    """
    device = labels.device
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    sampler.set_timesteps(num_steps, device=device)
    if hasattr(sampler, "set_begin_index"):  # few noise levels round to equal timesteps, by which it could not find it
        sampler.set_begin_index(0)
    x = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)
    x = x * sampler.init_noise_sigma
    takes_generators = "generator" in signature(sampler.step).parameters
    extra = {"generator": list(generators)} if takes_generators else {}
    for step in sampler.timesteps:
        v = guided_prediction(unet, sampler.scale_model_input(x, step), step, labels, guidance_scale)
        x = sampler.step(v, step, x, **extra, return_dict=False)[0]
    images: Tensor = x.clamp(-1.0, 1.0)
    return images


def guided_prediction(unet: UNet2DModel, x: Tensor, step: Tensor, labels: Tensor, guidance_scale: float) -> Tensor:
    """Return v under classifier-free guidance: [B, C, H, W] float32, whatever the precision of the weights."""
    weight = next(unet.parameters(), None)
    x = x if weight is None else x.to(weight.dtype)
    if guidance_scale == 1.0:
        v: Tensor = unet(x, step, class_labels=labels, return_dict=False)[0].float()
        return v
    both = torch.cat([labels, torch.full_like(labels, no_class(unet))])
    v_class, v_none = unet(torch.cat([x, x]), step, class_labels=both, return_dict=False)[0].float().chunk(2)
    guided: Tensor = v_none + guidance_scale * (v_class - v_none)
    return guided
