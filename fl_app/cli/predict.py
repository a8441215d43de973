"""The command `fl-app predict`: name the class of images with the classifier of a finished run."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fl_app.cli.classifier import best_device, check_writable, find_model
from fl_app.errors import DataError, OptionError

if TYPE_CHECKING:
    from torch import Tensor

    from fl_app.classification.bundle import Bundle

_CHUNK = 1024  # images in memory at once

Row = list[str]


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, or the exported folder `classification/model`.")],
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG, TIFF or DICOM files, or folders of them.")],
    head: Annotated[
        str | None, typer.Option(help="linear, nearest-mean, cosine, lda or fedcof; default: the run's choice.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file to write; default: the terminal.")] = None,
    convert: Annotated[
        bool,
        typer.Option(
            "--convert", help="Bring images to the model's size and colours, as in training; each frame is a line."
        ),
    ] = False,
) -> None:
    """Classify images: one line each with class, probability and distance to the nearest prototype.

    If `abstain` is true, the image is unlike the run's images: it lies farther from every prototype than the held-out
    ones do, or has another brightness, contrast or roughness. It does not find wrong answers to ordinary images.

    Files that cannot be read get no line; they are named at the end, and the exit status is 1.
    """
    missing = next((path for path in images if not path.is_file() and not path.is_dir()), None)
    if missing is not None:
        raise DataError(f"{missing}: no such file or folder. Name image files, or folders of them.")
    if out is not None:
        check_writable(out)
    model = find_model(run)
    from fl_app.classification.bundle import open_bundle

    files, num_others = _find_files(images)
    if out is not None and out.resolve() in {path.resolve() for path in files}:
        raise OptionError(f"--out must not name one of the images, got {out}.")
    bundle = open_bundle(model)
    bundle.head(head)  # refused before an image is read
    problems: list[str] = []
    rows = list(_rows(bundle, files, head, convert, problems))
    if not rows:
        raise DataError(problems[0])
    _write([_header(bundle), *rows], out)
    if num_others:
        typer.echo(f"Passed over in the folders: files that are no images, {num_others} of them.", err=True)
    if out is not None:
        typer.echo(f"{len(rows)} image{'s' if len(rows) > 1 else ''}: {out.resolve()}")
    if problems:
        for problem in problems:
            typer.secho(problem, fg="red", err=True)
        typer.secho(f"{len(problems)} of {len(files)} files cannot be read and have no line.", fg="red", err=True)
        raise typer.Exit(1)


def _find_files(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """Return the files that paths stand for, in order, and how many others lie in the folders."""
    from fl_app.data.listing import find_images

    files, num_others = [], 0
    for path in paths:
        found, others = find_images(path) if path.is_dir() else ([path], 0)
        files += found
        num_others += others
    return files, num_others


def _header(bundle: "Bundle") -> Row:
    return ["file", "predicted", "probability", "distance", "abstain", *(f"p({n})" for n in bundle.info.class_names)]


def _rows(
    bundle: "Bundle", files: Sequence[Path], head: str | None, may_convert: bool, problems: list[str]
) -> Iterator[Row]:
    """Yield the line of each image; what is wrong with files that cannot be read is added to `problems`."""
    import torch

    from fl_app.classification.prediction import classify

    device = best_device()
    for start in range(0, len(files), _CHUNK):
        read = list(_read(bundle, files[start : start + _CHUNK], may_convert, problems))
        if not read:
            continue
        found = classify(bundle, torch.cat([pixels for _, pixels in read]), head, device)
        names = [name for name, _ in read]
        for file, label, probabilities, distance, abstain in zip(
            names, found.labels, found.probabilities, found.distances, found.abstain, strict=True
        ):
            numbers = [_format(number) for number in probabilities]
            name = bundle.info.class_names[label]
            yield [file, name, numbers[label], _format(distance), str(bool(abstain)).lower(), *numbers]


def _read(
    bundle: "Bundle", files: Sequence[Path], may_convert: bool, problems: list[str]
) -> Iterator[tuple[str, "Tensor"]]:
    """Yield name and pixels, [1, C, H, W], of each image; the name of one frame of several ends in its number."""
    from fl_app.data.fitting import read_images
    from fl_app.data.unreadable import UnreadableImageError

    for path, frames in zip(files, read_images(files, bundle.info, may_convert=may_convert), strict=True):
        if isinstance(frames, UnreadableImageError):
            problems.append(str(frames))
            continue
        for number in range(len(frames)):
            yield (f"{path}#{number + 1}" if len(frames) > 1 else str(path)), frames[number : number + 1]


def _format(number: float) -> str:
    return f"{number:.6g}"


def _write(rows: Sequence[Row], out: Path | None) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    content = text.getvalue().encode("utf-8", "surrogateescape")  # a file's name need not be text
    if out is None:
        typer.echo(content, nl=False)
        return
    from fl_app.files import replacing

    with replacing(out.resolve()) as temporary:
        temporary.write_bytes(content)
