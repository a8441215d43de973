"""The command `fl-app predict`: name the class of images with the classifier of a finished run."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fl_app.cli.words import AsJson, Quiet, Runs, Voice, check_file
from fl_app.errors import OptionError
from fl_app.plugins import built_in

if TYPE_CHECKING:
    from fl_app.api.classifier import Answers


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, its name, or the exported folder `classification/model`.")],
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG, TIFF or DICOM files, or folders of them.")],
    head: Annotated[
        str | None,
        typer.Option(help=f"linear, {', '.join(built_in('heads'))}, or a plug-in; default: the run's choice."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file to write; default: the terminal.")] = None,
    convert: Annotated[
        bool,
        typer.Option(
            "--convert", help="Bring images to the model's size and colours, as in training; each frame is a line."
        ),
    ] = False,
    runs: Runs = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Classify images: one line each with class, probability and distance to the nearest prototype.

    If `abstain` is true, the image is unlike the run's images: it lies farther from every prototype than the held-out
    ones do, or has another brightness, contrast or roughness. It does not find wrong answers to ordinary images.

    Files that cannot be read get no line; they are named at the end, and the exit status is 1.
    """
    if out is not None:
        check_file(out)
    elif quiet and not as_json:
        raise OptionError("--quiet needs --out or --json: without one of them there would be no answer.")
    voice = Voice(quiet, as_json)
    from fl_app.api.classifier import find_files, find_model, open_classifier

    model = find_model(run, runs)
    files, num_others = find_files(images)
    if out is not None and out.resolve() in {path.resolve() for path in files}:
        raise OptionError(f"--out must not name one of the images, got {out}.")
    classifier = open_classifier(model)
    answers = classifier.predict(files, head, convert=convert, skip_unreadable=True)
    if out is not None or not as_json:
        _write(answers, out)
    if num_others:
        voice.warn(f"Passed over in the folders: files that are no images, {num_others} of them.")
    if out is not None:
        count = len(answers.names)
        voice.say(f"{count} image{'s' if count > 1 else ''}: {out.resolve()}")
    voice.answer(
        {
            "model": model,
            "head": head or classifier.model.shipped,
            "images": list(_documents(answers)),
            "problems": answers.problems,
            "passed-over": num_others,
        }
    )
    if answers.problems:
        for problem in answers.problems:
            voice.complain(problem)
        voice.complain(f"{len(answers.problems)} of {len(files)} files cannot be read and have no line.")
        raise typer.Exit(1)


def _documents(answers: "Answers") -> Iterator[dict[str, object]]:
    """Yield what is said of each image."""
    for number, (file, name) in enumerate(zip(answers.names, answers.predicted, strict=True)):
        probabilities = [float(value) for value in answers.probabilities[number]]
        yield {
            "file": file,
            "predicted": name,
            "probability": probabilities[answers.labels[number]],
            "distance": float(answers.distances[number]),
            "abstain": bool(answers.abstain[number]),
            "probabilities": dict(zip(answers.class_names, probabilities, strict=True)),
        }


def _rows(answers: "Answers") -> Iterator[list[str]]:
    """Yield the header and the line of each image; no data frame, whose library takes a second to import."""
    yield ["file", "predicted", "probability", "distance", "abstain", *(f"p({name})" for name in answers.class_names)]
    for number, (file, name) in enumerate(zip(answers.names, answers.predicted, strict=True)):
        numbers = [_format(value) for value in answers.probabilities[number]]
        found = numbers[answers.labels[number]], _format(answers.distances[number])
        yield [file, name, *found, str(bool(answers.abstain[number])).lower(), *numbers]


def _format(number: float) -> str:
    return f"{number:.6g}"


def _write(answers: "Answers", out: Path | None) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(_rows(answers))
    content = text.getvalue().encode("utf-8", "surrogateescape")  # a file's name need not be text
    if out is None:
        typer.echo(content, nl=False)
        return
    from fl_app.files import replacing

    with replacing(out.resolve()) as temporary:
        temporary.write_bytes(content)
