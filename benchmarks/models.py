"""The models of a finished or running run, ready to draw from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import UNet2DModel
from diffusers.utils.logging import disable_progress_bar
from torch import Tensor

from fl_app.data.sources import dataset_info
from fl_app.diffusion.pipeline import ClassConditionalPipeline
from fl_app.diffusion.task import DiffusionTask
from fl_app.errors import RunFolderError
from fl_app.messages.arrays import to_tensors
from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder
from fl_app.runs.run_json import read_document

CHECKPOINTED = ("raw", "ema", "node-ema")
EXPORTED = "exported"

_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def read_config(run: Path) -> RunConfig:
    """Read a run's options; those that are younger than the run take their default.

    Raises:
        RunFolderError: it is no run folder.
        OptionError: an option no longer exists.
    """
    return RunConfig.from_flat({**default_options(_PYPROJECT), **read_document(run).options})


def default_config(overrides: Mapping[str, OptionValue] | None = None) -> RunConfig:
    """Return the defaults of pyproject.toml, some of them changed: {dotted name: value}."""
    return RunConfig.from_flat({**default_options(_PYPROJECT), **(overrides or {})})


def open_exported(run: Path) -> ClassConditionalPipeline:
    """Open the model that a run exported at its end.

    Raises:
        RunFolderError: it has not exported one.
    """
    folder = run / "diffusion" / "model"
    if not folder.is_dir():
        raise RunFolderError(f"{run} holds no exported model: the run has not ended well yet.")
    disable_progress_bar()
    return cast(ClassConditionalPipeline, ClassConditionalPipeline.from_pretrained(folder, low_cpu_mem_usage=False))


def open_models(run: Path, wanted: str) -> Iterator[tuple[str, int, ClassConditionalPipeline]]:
    """Yield (name, round, pipeline) for a kind of weights, or for all that a run has.

    Under `all` the exported model is yielded only where its weights are none of the newest checkpoint's; else the
    checkpoint's name ends in `*`.

    Args:
        run: the run folder.
        wanted: a name of CHECKPOINTED, `exported`, or `all`.

    Raises:
        RunFolderError: the run has no such weights.
    """
    config = read_config(run)
    if wanted == EXPORTED:
        yield EXPORTED, config.diffusion.num_rounds, open_exported(run)
        return
    checkpoint = RunFolder(run).last_checkpoint("diffusion")
    if checkpoint is None:
        raise RunFolderError(f"{run} holds no checkpoint of the task diffusion yet.")
    names = [name for name in CHECKPOINTED if name in checkpoint.models and wanted in ("all", name)]
    if not names:
        raise RunFolderError(f"{run} has no {wanted} weights: it holds {', '.join(checkpoint.models)}.")
    exported = open_exported(run) if wanted == "all" and (run / "diffusion" / "model").is_dir() else None
    found = False
    for name in names:
        weights = to_tensors(checkpoint.models[name])
        is_exported = exported is not None and _equal(exported.unet.state_dict(), weights)
        found = found or is_exported
        yield f"{name}*" if is_exported else name, checkpoint.round_number, _pipeline(config, weights)
    if exported is not None and not found:
        yield EXPORTED, config.diffusion.num_rounds, exported


def balanced_labels(labels: Tensor, count: int) -> list[int]:
    """Return labels whose classes have the shares of the given ones, rounded by largest remainder.

    Args:
        labels: [N] int64, of the real images.
        count: how many to return.
    """
    classes, sizes = np.unique(labels.numpy(), return_counts=True)
    quotas, remainders = np.divmod(sizes * count, sizes.sum())
    quotas[np.argsort(-remainders, kind="stable")[: count - quotas.sum()]] += 1
    return [int(label) for label in np.repeat(classes, quotas)]


def _pipeline(config: RunConfig, weights: dict[str, Tensor]) -> ClassConditionalPipeline:
    task = DiffusionTask.of_run(config.pass_named("diffusion"), config, dataset_info(config.data))
    unet: UNet2DModel = task.build_model()
    unet.load_state_dict(weights)
    return ClassConditionalPipeline(
        unet=unet,
        scheduler=task.schedule,
        id2label={str(number): name for number, name in enumerate(task.info.class_names)},
        sampler=config.sampling.sampler,
        num_steps=config.sampling.num_steps,
        guidance_scale=config.sampling.guidance_scale,
    )


def _equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(value, others[key]) for key, value in some.items())
