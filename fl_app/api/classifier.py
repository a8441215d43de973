"""A finished classifier in Python, and its answers about images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fl_app.classification.model import ClassifierModel, read_classifier
from fl_app.classification.prediction import Predictions, classify
from fl_app.data.decoding import decode_image
from fl_app.data.fitting import fit, read_images
from fl_app.data.listing import find_images
from fl_app.data.loading import resize
from fl_app.data.unreadable import UnreadableImageError
from fl_app.errors import DataError, OptionError, RunFolderError, UnknownRunError
from fl_app.files import recover_folder
from fl_app.runs.overview import find_named, runs_folder, similar_run

if TYPE_CHECKING:
    import pandas

Files = str | Path | Sequence[str | Path]
InMemory = Image.Image | Sequence[Image.Image] | Tensor | NDArray[np.uint8]
Images = Files | InMemory

_CHUNK = 1024  # images in memory at once
_NUMBERS = ("labels", "probabilities", "distances", "abstain")


@dataclass(frozen=True)
class Answers(Predictions):
    """A classifier's answers about N images.

    Attributes:
        names: of the N images: paths; frames of one file have a number, as in `scan.dcm#2`; without files "0", "1", ….
        class_names: K names, in the order of the labels.
        problems: one for each file that was left out, and why.
    """

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    problems: tuple[str, ...] = ()

    @property
    def predicted(self) -> list[str]:
        """The name of each image's class, N of them."""
        return [self.class_names[label] for label in self.labels]

    def frame(self) -> "pandas.DataFrame":
        """Return a row per image: file, predicted, probability, distance, abstain, and p(<class>) per class."""
        import pandas

        columns = {
            "file": list(self.names),
            "predicted": self.predicted,
            "probability": self.probabilities[np.arange(len(self.labels)), self.labels],
            "distance": self.distances,
            "abstain": self.abstain,
        }
        columns |= {f"p({name})": self.probabilities[:, label] for label, name in enumerate(self.class_names)}
        return pandas.DataFrame(columns)


class Classifier:
    """A network with its prototypes and heads, used without a federation.

    Attributes:
        folder: where it was read from, absolute.
        model: its content.
    """

    def __init__(self, folder: Path, model: ClassifierModel) -> None:
        self.folder = folder
        self.model = model

    def __repr__(self) -> str:
        return f"Classifier({str(self.folder)!r}, classes={', '.join(self.class_names)})"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K names, in the order of the labels."""
        return self.model.info.class_names

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of its heads; the one that ships is first."""
        shipped = self.model.shipped
        return (shipped, *(name for name in self.model.heads if name != shipped))

    @property
    def prototypes(self) -> NDArray[np.float64]:
        """Mean embedding of each class: [K, D]; nan for a class that no site holds."""
        return self.model.prototypes

    def predict(
        self, images: Images, head: str | None = None, *, convert: bool = False, skip_unreadable: bool = False
    ) -> Answers:
        """Name the class of images.

        Args:
            images: files (PNG, JPEG, TIFF, DICOM), or folders, in which other files are ignored; or PIL images; or
                uint8 [N, C, H, W], and [N, H, W] if the model takes grey images.
            head: one of `heads`; None: the one that ships.
            convert: convert images to the model's size and colours, as training does, and use every frame of a file.
            skip_unreadable: leave out files that cannot be read, and name them in `problems`.

        Raises:
            OptionError: there is no such head, or no such file.
            DataError: an image cannot be read, or has another size or other colours than the model takes.
        """
        self.model.head(head)  # raises before an image is read
        device = best_device()
        names: list[str] = []
        problems: list[str] = []
        found: list[Predictions] = []
        if isinstance(images, str | Path) or (
            isinstance(images, Sequence) and all(isinstance(path, str | Path) for path in images)
        ):
            files, _ = find_files(cast(Files, images))
            for start in range(0, len(files), _CHUNK):
                read = list(self._read(files[start : start + _CHUNK], convert, problems, skip_unreadable))
                if read:
                    names += [name for name, _ in read]
                    found.append(classify(self.model, torch.cat([pixels for _, pixels in read]), head, device))
            if not found:
                raise DataError(problems[0] if problems else "There is no image to classify: give one or more.")
        else:
            pixels = self._take(cast(InMemory, images), convert)
            if not len(pixels):
                raise DataError("There is no image to classify: give one or more.")
            names = [str(number) for number in range(len(pixels))]
            found = [classify(self.model, part, head, device) for part in pixels.split(_CHUNK)]
        numbers = {name: np.concatenate([getattr(part, name) for part in found]) for name in _NUMBERS}
        return Answers(**numbers, names=tuple(names), class_names=self.class_names, problems=tuple(problems))

    def _read(
        self, files: Sequence[Path], convert: bool, problems: list[str], skip_unreadable: bool
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield name and pixels, [1, C, H, W], of each image; the name of one frame of several ends in its number."""
        for path, frames in zip(files, read_images(files, self.model.info, may_convert=convert), strict=True):
            if isinstance(frames, UnreadableImageError):
                if not skip_unreadable:
                    raise frames
                problems.append(str(frames))
                continue
            for number in range(len(frames)):
                yield (f"{path}#{number + 1}" if len(frames) > 1 else str(path)), frames[number : number + 1]

    def _take(self, images: InMemory, convert: bool) -> Tensor:
        """Return images in memory as [N, C, H, W] uint8."""
        info = self.model.info
        if isinstance(images, Tensor | np.ndarray):
            pixels = torch.tensor(images) if isinstance(images, np.ndarray) else images
            pixels = pixels[:, None] if pixels.ndim == 3 and info.num_channels == 1 else pixels
            return resize(pixels, info.image_size) if convert and pixels.ndim == 4 else pixels
        frames = []
        for number, image in enumerate([images] if isinstance(images, Image.Image) else images):
            if not isinstance(image, Image.Image):
                raise DataError(f"Images must be paths, PIL images or uint8 arrays, got {type(image).__name__}.")
            found = decode_image(image, info.num_channels)
            pixels = torch.tensor(found.pixels)  # copied: Pillow's own memory is read-only
            frames.append(fit(f"Image {number}", found.header, pixels, info, may_convert=convert))
        return torch.cat(frames)


def open_classifier(run: str | Path, runs: str | Path | None = None) -> Classifier:
    """Open the classifier of a finished run.

    Args:
        run: a run folder, the name of a run in `runs`, or the exported folder `classification/model`.
        runs: where run folders are; None: ~/fl-app/runs.

    Raises:
        UnknownRunError: there is no such run.
        RunFolderError: it has no classifier, or that is damaged.
    """
    folder = find_model(Path(run), runs)
    return Classifier(folder, read_classifier(folder))


def find_model(run: Path, runs: str | Path | None = None) -> Path:
    """Return the exported classifier of a run, absolute; `run` may be that folder itself, or a run's name in `runs`.

    Raises:
        UnknownRunError: there is no such run.
        RunFolderError: it has no classifier.
    """
    named, where = run, runs_folder(runs)
    run = find_named(named, where)
    candidates = (run / "classification" / "model", run)
    for folder in candidates:
        if folder.name == "model":  # and no folder of somebody else's
            recover_folder(folder)
    model = next((folder for folder in candidates if (folder / "model.json").is_file()), None)
    if model is None:
        if not run.is_dir():
            raise UnknownRunError(f"{named}: no such folder, nor a run in {where}.{similar_run(named, where)}")
        found = "no finished classification model" if (run / "run.json").is_file() else "no run folder"
        raise RunFolderError(
            f"{run}: {found}. Give the folder of a completed run whose tasks name classification, "
            "or the folder classification/model in it."
        )
    return model


def best_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def find_files(images: Files) -> tuple[list[Path], int]:
    """Return the image files that paths name or hold, in order, and the number of other files in the folders.

    Raises:
        OptionError: a path does not exist.
        DataError: a folder holds no image.
    """
    paths = [Path(path) for path in ([images] if isinstance(images, str | Path) else images)]
    missing = next((path for path in paths if not path.is_file() and not path.is_dir()), None)
    if missing is not None:
        raise OptionError(f"{missing}: no such file or folder. Name image files, or folders of them.")
    files, num_others = [], 0
    for path in paths:
        found, others = find_images(path) if path.is_dir() else ([path], 0)
        files += found
        num_others += others
    return files, num_others
