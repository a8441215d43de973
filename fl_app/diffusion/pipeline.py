"""The exported model: a diffusers pipeline that draws images of a named class.

Importing this module makes the class known to diffusers, so that `DiffusionPipeline.from_pretrained` opens it, too.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, UNet2DModel
from diffusers.utils import logging
from torch import Tensor

from fl_app.diffusion.sampling import build_sampler, sample, steps_of
from fl_app.errors import OptionError
from fl_app.files import check_export
from fl_app.options.sections import did_you_mean
from fl_app.seeding import generator_for

_FULL_NAME = "fl_app.diffusion.pipeline.ClassConditionalPipeline"


def open_pipeline(folder: Path) -> "ClassConditionalPipeline":
    """Open an exported folder without progress bars and advice on the terminal.

    Raises:
        RunFolderError: a file is not as it was written.
    """
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    opened: ClassConditionalPipeline = ClassConditionalPipeline.from_pretrained(folder)
    return on_best_device(opened)


def on_best_device(pipeline: "ClassConditionalPipeline") -> "ClassConditionalPipeline":
    """Move a pipeline to the GPU where there is one; its images start from the same noise there."""
    return pipeline.to("cuda") if torch.cuda.is_available() else pipeline


class ClassConditionalPipeline(DiffusionPipeline):  # type: ignore[misc]
    """A U-Net, its noise schedule, and what its labels are called.

    `ClassConditionalPipeline.from_pretrained(folder)` opens an exported folder. Its config holds dictionaries only:
    diffusers takes a list for the name of a module.

    Args:
        unet: predicts v; K + 1 class embeddings.
        scheduler: the noise process of training.
        id2label: class names by number, "0" to "K-1".
        held: by number, whether any node held an image of the class; a number that is missing counts as held.
        sampler: default sampler.
        num_steps: default number of denoising steps; 0: the sampler's own.
        guidance_scale: default guidance.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, **kwargs: Any) -> Any:
        """Open an exported folder, with the arguments of diffusers.

        Raises:
            RunFolderError: a file is not as it was written.
        """
        if pretrained_model_name_or_path is not None:
            check_export(Path(pretrained_model_name_or_path))
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: DDPMScheduler,
        id2label: dict[str, str] | None = None,
        held: dict[str, bool] | None = None,
        sampler: str = "dpm-solver++",
        num_steps: int = 0,
        guidance_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(
            id2label=id2label or {},
            held=held or {},
            sampler=sampler,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
        )

    def to_json_string(self) -> str:
        """Write the config under the class's full name, so that diffusers' error says what to import."""
        config = json.loads(super().to_json_string())
        return json.dumps(config | {"_class_name": _FULL_NAME}, indent=2, sort_keys=True) + "\n"

    @property
    def class_names(self) -> list[str]:
        """The K class names, in the order of the labels."""
        return list(self.config.id2label.values())

    def class_index(self, name: str | int) -> int:
        """Find a class: text by its name, else by its number; an integer by its number.

        Raises:
            OptionError: no such class, or one of which no node held an image.
        """
        names = self.class_names
        if isinstance(name, str) and name in names:  # a name first: grades may be called "1", "2", "3"
            index = names.index(name)
        elif str(name).isdecimal() and int(name) < len(names):
            index = int(name)
        else:
            hint = did_you_mean(name, names)
            raise OptionError(f"There is no class '{name}'. The model knows: {', '.join(names)}.{hint}")
        if not self.config.held.get(str(index), True):
            raise OptionError(f"No node held an image of class '{names[index]}', so the model cannot draw it.")
        return index

    @torch.no_grad()
    def __call__(
        self,
        classes: Sequence[str | int],
        seed: int = 0,
        first_image: int = 0,
        batch_size: int = 256,
        sampler: str | None = None,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> Tensor:
        """Draw one image per entry of `classes`.

        Args:
            classes: names or numbers.
            seed: with the image's position and class it fixes the image, whatever the batch size.
            first_image: position of the first image, to go on where an earlier call ended.
            batch_size: images drawn at once.
            sampler: `ddim`, `dpm-solver++` or `ancestral`; None takes the exported default, as below.
            num_steps: denoising steps; None takes the exported default, or for another sampler its own number.
            guidance_scale: 1 turns guidance off.

        Returns:
            [len(classes), C, H, W] float32 in [-1, 1], on the CPU.
        """
        labels = [self.class_index(name) for name in classes]
        name = sampler or self.config.sampler
        if num_steps is None:
            num_steps = self.config.num_steps if name == self.config.sampler else 0
        steps = steps_of(name, num_steps, self.scheduler.config.num_train_timesteps)
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        chosen = build_sampler(name, self.scheduler)
        self.unet.eval()
        parts = []
        for start in range(0, len(labels), batch_size):
            chunk = labels[start : start + batch_size]
            generators = [
                generator_for(seed, "sample", first_image + start + offset, f"class-{label}")
                for offset, label in enumerate(chunk)
            ]
            drawn = sample(self.unet, chosen, torch.tensor(chunk, device=self.device), generators, steps, scale)
            parts.append(drawn.cpu())
        shape = (0, self.unet.config.in_channels, self.unet.config.sample_size, self.unet.config.sample_size)
        return torch.cat(parts) if parts else torch.empty(shape)


for _name in (_FULL_NAME, ClassConditionalPipeline.__name__):  # folders of older versions have the short one
    setattr(diffusers, _name, ClassConditionalPipeline)
