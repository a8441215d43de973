"""The command `fl-app sample`: draw images from a finished run."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from fl_app.cli.words import AsJson, Quiet, Runs, Voice, check_folder
from fl_app.errors import RunFolderError
from fl_app.plugins import built_in, check_name

_GRID_COLUMNS = 10


def sample(
    run: Annotated[
        Path, typer.Argument(help="A run folder, its name, or the exported folder `diffusion/model` in it.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the PNG files; made if missing.")],
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Name or number of a class; several times for several.")
    ] = None,
    number: Annotated[int, typer.Option("-n", "--number", help="Images of each class.", min=1)] = 8,
    grid: Annotated[
        bool, typer.Option("--grid", help="One picture of all images instead of one file for each.")
    ] = False,
    seed: Annotated[int, typer.Option(help="With class and position it fixes each image.", min=0)] = 0,
    sampler: Annotated[
        str | None, typer.Option(help=f"{', '.join(built_in('samplers'))}, or a plug-in; default: the run's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; default: the run's.", min=1)] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance, 1 for none; default: the run's.", min=0)] = None,
    weights: Annotated[
        str, typer.Option(help="exported (the better ones), or raw, ema, node-ema of the last or the best checkpoint.")
    ] = "exported",
    checkpoint: Annotated[
        str | None, typer.Option(help="last or best, with --weights raw, ema or node-ema; default: last.")
    ] = None,
    quarantined: Annotated[
        bool,
        typer.Option(
            "--quarantined", help="Draw although the audit found that the model knows or repeats training images."
        ),
    ] = False,
    runs: Runs = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw images of named classes from the model of a finished run."""
    check_folder(out)
    if sampler is not None:
        check_name("samplers", sampler, "--sampler")
    from fl_app.api.drawing import choose_labels, find_model, open_model
    from fl_app.runs.audit import quarantine_of

    pipeline = open_model(run, weights, checkpoint, runs, quarantined=quarantined)
    voice = Voice(quiet, as_json)
    if quarantine_of(find_model(run, runs)[1]) is not None:
        voice.warn("The model is quarantined: these images may be copies of training images. Do not pass them on.")
    wanted = [label for label in choose_labels(pipeline, classes or None) for _ in range(number)]
    images = pipeline(wanted, seed=seed, sampler=sampler, num_steps=steps, guidance_scale=guidance)
    names = [pipeline.class_names[label] for label in wanted]
    paths = _draw_grid(images, names, number, out) if grid else _write(images, wanted, names, number, out)
    where = paths[0].resolve() if grid else out.resolve()
    voice.say(f"{len(images)} images in {len(paths)} file{'s' if len(paths) > 1 else ''}: {where}")
    files = [paths[0 if grid else i].resolve() for i in range(len(names))]
    drawn = [{"file": file, "class": name} for file, name in zip(files, names, strict=True)]
    voice.answer({"seed": seed, "weights": weights, "images": drawn})


def _draw_grid(images: Any, names: list[str], number: int, out: Path) -> list[Path]:
    """Draw all images as one picture with the names of their classes, and return its path."""
    from fl_app.diffusion.pictures import save_grid

    save_grid(images, names, min(number, _GRID_COLUMNS), out / "grid.png")
    return [out / "grid.png"]


def _write(images: Any, labels: list[int], names: list[str], number: int, out: Path) -> list[Path]:
    """Write a file for each image, and return the paths; `number`: images of each class."""
    from fl_app.diffusion.pictures import to_picture

    try:
        out.mkdir(parents=True, exist_ok=True)
        paths = []
        for place, (image, label, name) in enumerate(zip(images, labels, names, strict=True)):
            text = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{label}-{name}")
            paths.append(out / f"{place % number:05d}-{text}.png")
            to_picture(image).save(paths[-1])
        return paths
    except OSError as error:
        raise RunFolderError(f"The images cannot be written to {out}: {error.strerror or error}.") from error
