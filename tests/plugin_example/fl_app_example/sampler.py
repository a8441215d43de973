"""A sampler: Euler's method, in 25 steps."""

from diffusers import EulerDiscreteScheduler

from fl_app.diffusion.sampling import Sampler

EULER = Sampler(EulerDiscreteScheduler, {"timestep_spacing": "trailing"}, num_steps=25)
