"""The exported model: a diffusers pipeline that draws images of a named class.

Importing this module makes the class known to diffusers, so that `DiffusionPipeline.from_pretrained` opens it, too.
"""

import importlib
import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, ModelMixin, UNet2DModel
from diffusers.utils import logging
from torch import Tensor

from fl_app.diffusion.sampling import build_sampler, sample, steps_of
from fl_app.errors import OptionError, RunFolderError, did_you_mean
from fl_app.files import check_export
from fl_app.plugins import PluginError, installed, named_by_file, trusted_paths
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
            RunFolderError: a file is not as it was written, or it names code that no such folder needs.
            PluginError: its U-Net is a plug-in that is not installed, or a path that is not trusted.
        """
        folder = None if pretrained_model_name_or_path is None else Path(pretrained_model_name_or_path)
        if folder is not None:
            check_export(folder)
        if folder is not None and (foreign := _read_index(folder)):  # diffusers opens only its own classes
            unet = _unet_class(*foreign["unet"]).from_pretrained(folder / "unet", **kwargs)
            scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
            settings: dict[str, Any] = {
                name: value for name, value in foreign.items() if name[0] != "_" and not isinstance(value, list)
            }
            opened = cls(unet, scheduler, **settings)
        else:
            opened = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        opened._is_from_file = True
        return opened

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
        self._is_from_file = False
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
            sampler: built in or a plug-in; None takes the exported default, as below.
            num_steps: denoising steps; None takes the exported default, or for another sampler its own number.
            guidance_scale: 1 turns guidance off.

        Returns:
            [len(classes), C, H, W] float32 in [-1, 1], on the CPU.
        """
        labels = [self.class_index(name) for name in classes]
        name = sampler or self.config.sampler
        if num_steps is None:
            num_steps = self.config.num_steps if name == self.config.sampler else 0
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        with named_by_file() if sampler is None and self._is_from_file else nullcontext():
            steps = steps_of(name, num_steps, self.scheduler.config.num_train_timesteps)
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


def _read_index(folder: Path) -> dict[str, Any]:
    """Read model_index.json if its U-Net is a class of a plug-in; empty if diffusers can open the folder by itself.

    diffusers imports any module that the file names, and code that lies in the folder: so only the classes that an
    exported folder has, or that a plug-in has, may stand there.
    """
    try:
        index: dict[str, Any] = json.loads((folder / "model_index.json").read_bytes())
    except (OSError, ValueError):  # diffusers reads it, too, and has an error of its own
        return {}
    kind = index.get("_class_name")
    if kind not in (_FULL_NAME, ClassConditionalPipeline.__name__):
        raise RunFolderError(f"{folder} holds a pipeline of another kind, {kind}. Export the model anew.")
    if next(folder.rglob("*.py"), None) is not None:
        raise RunFolderError(f"{folder} holds Python code, which no exported model needs. Do not use it.")
    strange = {name: entry for name, entry in index.items() if isinstance(entry, list) and entry[:1] != ["diffusers"]}
    known = {point.module for point in installed("unets").values()}
    known |= {path.partition(":")[0] for path in trusted_paths()}
    for name, entry in strange.items():
        if name != "unet" or len(entry) != 2 or entry[0] not in known:
            raise PluginError(
                f"{folder}: its '{name}' is a class of the module '{next(iter(entry), '')}', which is no installed "
                "plug-in of the group 'fl_app.unets'. Install its package; or, if you trust it, name the path of its "
                "function in the environment variable FL_APP_PLUGINS_ALLOWED."
            )
    return index if strange else {}


def _unet_class(module: str, name: str) -> Any:
    """Return the class of a plug-in's U-Net; raises PluginError if it is none."""
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, type) or not issubclass(found, ModelMixin):
        raise PluginError(f"'{name}' in the module '{module}' is no model of diffusers: the plug-in has changed.")
    return found


for _name in (_FULL_NAME, ClassConditionalPipeline.__name__):  # folders of older versions have the short one
    setattr(diffusers, _name, ClassConditionalPipeline)
