"""The commands `fl-app prototypes`: a new hospital joins a finished classifier without any training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fl_app.cli.words import Quiet, Runs, Voice, check_file
from fl_app.errors import OptionError
from fl_app.logs import clean_text
from fl_app.options.sections import LONGEST_NAME, is_site_name

if TYPE_CHECKING:
    from fl_app.classification.model import ClassifierModel
    from fl_app.classification.moments import Moments

prototypes = typer.Typer(no_args_is_help=True, help="Let a new hospital join a finished classifier, without training.")

_Run = Annotated[Path, typer.Argument(help="A run folder, its name, or the exported folder `classification/model`.")]
_Site = Annotated[str, typer.Option(help="Name of the hospital: letters, digits, '_', '.', '-'.")]
_FEWEST = "Sums of a class with fewer images than this are withheld."


@prototypes.command("measure")
def measure(
    run: _Run,
    data: Annotated[Path, typer.Argument(help="The hospital's images, a folder for each class.")],
    site: _Site,
    out: Annotated[Path, typer.Option(help="File to write, for `fl-app prototypes add`.")],
    min_class_count: Annotated[int, typer.Option(help=_FEWEST, min=1)] = 5,
    runs: Runs = None,
    quiet: Quiet = False,
) -> None:
    """At the new hospital: sum up the embeddings of its images into one file of numbers."""
    _check_site(site)
    check_file(out)
    if not data.is_dir():
        raise OptionError(f"{data} is no folder. Expected images in a folder for each class.")
    from fl_app.api.classifier import open_classifier
    from fl_app.classification.joining import Handover, write_handover
    from fl_app.classification.judging import check_moments
    from fl_app.classification.model import fingerprint
    from fl_app.files import replacing

    classifier = open_classifier(run, runs).model
    sums = _measure(classifier, data, min_class_count)
    check_moments(sums, *classifier.pooled["sum"].shape)
    with replacing(out.resolve()) as temporary:
        write_handover(Handover(site, classifier.info.class_names, fingerprint(classifier.weights), sums), temporary)
    counts = zip(classifier.info.class_names, sums["count"], sums["withheld"], strict=True)
    told = {name: (int(count), bool(withheld)) for name, count, withheld in counts}
    counted = {name: count for name, (count, _) in told.items() if count}
    voice = Voice(quiet)
    _say_what_counts(voice, site, counted, [name for name in told if told[name][1]])
    voice.say(f"sums, no image among them: {out.resolve()}")


@prototypes.command("add")
def add(
    run: _Run,
    data: Annotated[Path, typer.Argument(help="A folder of images for each class, or a file that `measure` wrote.")],
    site: Annotated[
        str | None, typer.Option(help="Name of the hospital; default: the one in the file, or the folder's name.")
    ] = None,
    min_class_count: Annotated[
        int | None, typer.Option(help=f"{_FEWEST} For a folder; default: 1.", min=1, show_default=False)
    ] = None,
    runs: Runs = None,
    quiet: Quiet = False,
) -> None:
    """Add a hospital's sums to the model, in place: its prototypes and heads change, its network does not."""
    if site is not None:
        _check_site(site)
    if not data.is_file() and not data.is_dir():
        raise OptionError(
            f"{data}: no such file or folder. Name images, a folder for each class, or a file of `measure`."
        )
    if data.is_file() and min_class_count is not None:
        raise OptionError("--min-class-count is for a folder; for a file, give it to `fl-app prototypes measure`.")
    from fl_app.api.classifier import find_model
    from fl_app.classification.joining import add_site
    from fl_app.classification.model import read_classifier, write_classifier
    from fl_app.files import replace_folder
    from fl_app.runs.joined import known_sites, note_joined

    model = find_model(run, runs)
    with _locked(model):
        classifier = read_classifier(model)
        if data.is_dir():
            name = site or data.resolve().name
            _check_site(name)
            sums = _measure(classifier, data, min_class_count or 1)
        else:
            name, sums = _read(classifier, data, site)
        known = known_sites(model)
        updated = add_site(classifier, name, sums, known or ())
        replace_folder(model, lambda folder: write_classifier(updated, folder))
        note_joined(model, name)
    voice = Voice(quiet)
    _say_what_changed(voice, updated, name, classifier.shipped)
    if known is None and not classifier.names_sites:
        voice.say(
            f"Note: this copy does not name its sites. Make sure that '{name}' was not among them: images count once."
        )
    voice.say(f"model: {model}")


def _check_site(site: str) -> None:
    if not is_site_name(site):
        shown = clean_text(site, LONGEST_NAME)
        raise OptionError(
            f"--site must consist of at most {LONGEST_NAME} letters, digits, '_', '-' or single dots, got '{shown}'."
        )


def _measure(classifier: "ClassifierModel", data: Path, min_class_count: int) -> "Moments":
    """Read a folder as a node reads its own, and sum up its embeddings."""
    from fl_app.api.classifier import best_device
    from fl_app.classification.moments import measure_moments
    from fl_app.data.folder import read_folder

    device = best_device()
    images = read_folder(data, classifier.info, "train")
    return measure_moments(classifier.build_network().to(device), images, device, min_class_count)


def _read(classifier: "ClassifierModel", path: Path, site: str | None) -> tuple[str, "Moments"]:
    """Read a file of sums and its site; refuse another site's, or another model's."""
    from fl_app.classification.joining import read_handover
    from fl_app.classification.judging import check_moments
    from fl_app.classification.model import fingerprint

    found = read_handover(path)
    _check_site(found.site)
    if site is not None and found.site != site:
        raise OptionError(f"--site is '{site}', but {path} holds the sums of '{found.site}'.")
    check_moments(found.moments, *classifier.pooled["sum"].shape)
    if found.class_names != classifier.info.class_names:
        names = (clean_text(", ".join(found.class_names)), ", ".join(classifier.info.class_names))
        raise OptionError(f"{path} holds sums of the classes {names[0]}; the model knows {names[1]}.")
    if found.model != fingerprint(classifier.weights):
        raise OptionError(f"{path} was measured with another model's weights. Measure again with this very model.")
    return found.site, found.moments


@contextmanager
def _locked(model: Path) -> Iterator[None]:
    """Keep other writers out, a run that is going on among them."""
    from fl_app.runs.folder import RunFolder

    places = (model.parent.parent, model.parent)
    folder = RunFolder(next((place for place in places if (place / "run.json").is_file()), model.parent))
    folder.lock()
    try:
        yield
    finally:
        folder.unlock()


def _say_what_changed(voice: Voice, classifier: "ClassifierModel", site: str, shipped_before: str) -> None:
    entry: dict[str, Any] = classifier.record["added"][-1]
    _say_what_counts(voice, site, entry["images"], entry["withheld"])
    if entry["new-classes"]:
        voice.say(f"new classes: {', '.join(entry['new-classes'])}")
    known = [name for name, flag in zip(classifier.info.class_names, classifier.known, strict=True) if flag]
    voice.say(f"classes known: {', '.join(known)}")
    if entry["shipped"] != shipped_before:
        voice.say(f"head: {entry['shipped']} instead of {shipped_before}, since {entry['why']}")
    if classifier.reading != "consistent":
        voice.say("Note: the run measured its sums with each site's own network, this site with the common one.")


def _say_what_counts(voice: Voice, site: str, images: dict[str, int], withheld: list[str]) -> None:
    counts = ", ".join(f"{name} {count}" for name, count in images.items())
    voice.say(f"{site}: {sum(images.values())} images ({counts})")
    if withheld:
        voice.say(f"withheld, too few images: {', '.join(withheld)}")
