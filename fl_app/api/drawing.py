"""The diffusion model of a finished run, opened for sampling."""

import time
from collections.abc import Sequence
from pathlib import Path

from fl_app.diffusion.pipeline import ClassConditionalPipeline, open_pipeline
from fl_app.errors import OptionError, RunFolderError, UnknownRunError, did_you_mean
from fl_app.messages.arrays import to_tensors
from fl_app.runs.audit import QUARANTINED, TASK, check_quarantine
from fl_app.runs.folder import RunFolder
from fl_app.runs.missing import why_no_task
from fl_app.runs.overview import find_named, look_at, runs_folder, similar_run


def open_model(
    run: Path,
    weights: str = "exported",
    checkpoint: str | None = None,
    runs: str | Path | None = None,
    *,
    quarantined: bool = False,
) -> ClassConditionalPipeline:
    """Open the exported pipeline of a run, on request with other weights of the run.

    Args:
        run: a run folder, the name of a run in `runs`, or the exported folder `diffusion/model`.
        weights: `exported`, those that were better; or `raw`, `ema` or `node-ema` of a checkpoint.
        checkpoint: `last` or `best`, for weights of a checkpoint; None: the last.
        runs: where run folders are; None: ~/fl-app/runs.
        quarantined: open the model, or weights of the run, although the audit put it aside.

    Raises:
        UnknownRunError: there is no such run.
        QuarantineError: the model is quarantined, and `quarantined` is false.
        RunFolderError: there is no exported model, or no such checkpoint.
        OptionError: no such weights, or a checkpoint is chosen for the exported weights, which have none.
    """
    if checkpoint not in (None, "last", "best"):
        hint = did_you_mean(checkpoint, ("last", "best"))
        raise OptionError(f"The checkpoint must be last or best, got '{checkpoint}'.{hint}")
    if checkpoint is not None and weights == "exported":
        raise OptionError(
            f"The checkpoint '{checkpoint}' is without effect on the exported weights. Choose the weights raw, ema or "
            "node-ema, or leave the checkpoint out."
        )
    run, model = find_model(run, runs)
    if not quarantined:
        check_quarantine(model)
    pipeline = open_pipeline(model)
    if weights == "exported":
        return pipeline
    folder = RunFolder(run)
    saved = folder.best_checkpoint("diffusion") if checkpoint == "best" else folder.last_checkpoint("diffusion")
    if saved is None:
        raise RunFolderError(f"{run} holds no {checkpoint or 'last'} checkpoint.")
    if weights not in saved.models:
        known = ["exported", *sorted(saved.models)]
        hint = did_you_mean(weights, known)
        raise OptionError(f"The weights must be one of {', '.join(known)}, got '{weights}'.{hint}")
    pipeline.unet.load_state_dict(to_tensors(saved.models[weights]))
    return pipeline


def find_model(named: Path, runs: str | Path | None = None) -> tuple[Path, Path]:
    """Return a run folder and its exported diffusion model, quarantined or not; arguments and errors: `open_model`."""
    where = runs_folder(runs)
    run = find_named(named, where)
    places = (run / TASK / QUARANTINED, run / TASK / "model", run)
    model = next((path for path in places if (path / "model_index.json").is_file()), None)
    if model is None:
        if not run.is_dir():
            raise UnknownRunError(f"{named}: no such folder, nor a run in {where}.{similar_run(named, where)}")
        without = why_no_task(run)
        if without is not None:
            raise RunFolderError(f"{run}: no diffusion model, since {without}. Give a run that trains one.")
        until = (
            "; until then its folder diffusion/samples shows galleries" if look_at(run, time.time()).is_going_on else ""
        )
        raise RunFolderError(f"{run}: no finished diffusion model. Give a run whose task diffusion has ended{until}.")
    return run, model


def choose_labels(pipeline: ClassConditionalPipeline, classes: str | int | Sequence[str | int] | None) -> list[int]:
    """Return the numbers of one class or several, each once; None: of all classes that some node held an image of.

    Raises:
        OptionError: there is no such class, or no node held an image of it.
    """
    if isinstance(classes, str | int):
        classes = [classes]
    held = [name for i, name in enumerate(pipeline.class_names) if pipeline.config.held.get(str(i), True)]
    return list(dict.fromkeys(pipeline.class_index(name) for name in (held if classes is None else classes)))
