"""Writes the page on what leaves the building: every kind of value that a hospital's node sends, with its size.

Two hospitals with folders of images take part in a whole run of both tasks, with every option on that makes nodes send
more. Each value in their replies must have an explanation here; otherwise no page is written, so none is forgotten.

    python -m benchmarks.what_leaves docs/what-leaves-the-building.md
"""

import argparse
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message
from PIL import Image

from benchmarks.local_grid import run_federation
from benchmarks.models import default_config
from fl_app.data.sources import load_split
from fl_app.messages.arrays import unpack
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue

SITES = ("north", "south")
FILE_NAME = "patient-mueller"  # a test looks for it in all that nodes send

_SMALL: dict[str, OptionValue] = {"min-held-out": 1, "min-class-count": 1}  # of folders of a hundred images

_QUESTIONS = {
    "query.describe": "Who are you? Asked once, before the first round",
    "train": "Train this model. Asked in every round",
    "query.moments": "Sum up your embeddings. Asked after the last round of `classification`",
    "evaluate.heads": "How good are these heads? Asked after `query.moments`",
    "evaluate": "How good are these models? Asked once at the end of each task",
    "query.draw": "Draw images of the classes that you lack, and keep them. Asked before the rounds of "
    "`classification`, with `classification.replay=generated`",
    "query.membership": "Does this model know your training images, or repeat them? Asked once, before `diffusion` is "
    "exported",
    "query.quality": "How good are these generated images? Asked at the end of a run, once for each network of "
    "`quality.features` and once for `quality.usefulness`; and after round 1 of `diffusion`, without images, for "
    "`quality.curve`",
}
_EXPLAINED = {
    r"node/site": "the name that the hospital gave itself",
    r"node/class-names": "the names of the classes",
    r"node/(num-channels|image-size)": "channels and size of the images, as the run's options state them",
    r"node/(train|validation|test)-counts": "number of images of each class to train on, held out, and to test on",
    r"node/test-shares": "into how many shares the nodes of a simulation split a common test set; at a "
    "hospital always 0",
    r"node/too-few": "the parts that the node does not use, because they have fewer images than `min-images` or "
    "`min-held-out`",
    r"node/unreadable-files": "number of files that were left out because they are missing or broken",
    r"node/(task|server-round)": "the task and the round that this reply belongs to",
    r"weights/.*": "the network's weights after local training",
    r"node-ema/.*": "the average of these weights over the steps of training, with `diffusion.node-ema`",
    r"metrics/num-examples": "number of training images",
    r"metrics/loss-(sum|count)": "sum and number of the training losses",
    r"metrics/seconds": "duration of the training",
    r"metrics/num-pieces": "into how many pieces batches were cut because GPU memory was short",
    r"statistics/(raw|ema|node-ema|initial)/loss-(sum|count)": "sum and number of the held-out images' denoising "
    "losses in four bands of noise, for each received set of weights",
    r"statistics/.*/confusion": "number of held-out or test images by true and predicted class, for each received "
    "network or head",
    r"statistics/.*/auroc": "number of held-out or test images by score, in 128 bins for each class, for the AUC",
    r"statistics/.*/nll(-count|-tempered|-runner-up)?": "sum of the held-out or test images' negative "
    "log-likelihoods, of the right and of the second best class, at 41 temperatures",
    r"statistics/.*/paired": "number of held-out or test images of each class that only a head classifies correctly, "
    "and that only the network's own last layer does",
    r"statistics/.*/patients": "number of patients among the held-out or test images (of images if patients are not "
    "known), and sums over the patients of squares and products of their numbers of images and of right answers; a "
    "site with fewer than 5 patients sends these sums as if all its images were one patient's",
    r"statistics/.*/joint": "number of held-out or test images by the scores of a head and of the network's own last "
    'layer together, in 33 x 33 bins for each class; only with `classification.choose-by = "auc"`',
    r"statistics/(floor-)?moments/count": "number of test images (floor: of training images) of each "
    "class whose features were summed, and of the classes with few images together",
    r"statistics/(floor-)?moments/sum": "for each of these groups of classes, the sum of the features of its images: "
    "pixels of a small picture, or the embedding of the run's classifier",
    r"statistics/(floor-)?moments/outer": "for each of these groups, the sum of f f' over the features f, for the "
    "covariance. A hospital sends moments of at least two images a feature, else zeros",
    r"statistics/(generated|floor)/kernel-.*": "number of test images and of generated (floor: training) images, the "
    "mean over pairs of both and among each of a polynomial kernel of the features, and its variance",
    r"statistics/(generated|floor)/neighbours": "number of test images, and of generated (floor: training) images, "
    "that have one of the other kind nearer than the fifth neighbour of their own kind, and of such pairs",
    r"statistics/drawn": "number of generated images of each class that the node trains on beside its own",
    r"statistics/(synthetic|real|both)": "number of test images of each class, and how many of them a small classifier "
    "has right that the node trained on generated images, on its own training images, or on both",
    r"statistics/validation/distance": "number of held-out images by distance from the nearest prototype",
    r"statistics/left-out/.*": "number of held-out images of classes that two other sites hold, and how many of them a "
    "head without this node's sums has right, and the network's own last layer; only with three sites or more",
    r"statistics/validation/picture-distance": "number of held-out images by how far their brightness, contrast and "
    "roughness lie from those of the training images",
    r"statistics/(loss|sima)/(train|validation|test)": "number of training, held-out and test images by how well the "
    "model knows them, in 128 bins of two scores; at most `audit.num-images` of each; only with `audit.membership`",
    r"statistics/copies/drawn": "number of images that the node drew itself with the model, and how many of them are "
    "finite numbers; only with `audit.copies-images`, like the next three",
    r"statistics/copies/.*/counts": "in two feature spaces: number of these drawn images, and of near copies of "
    "training images among them; number of held-out images, and of near copies of training images among these",
    r"statistics/copies/.*/ratio": "sums over the drawn images: of the logarithm, and its square, of the distance of "
    "the nearest of as many training as held-out images over that of the nearest held-out image; of the share of such "
    "sets by which the training image is nearer, and its square; and what the choice of held-out images adds to the "
    "variance of both",
    r"statistics/copies/.*/histogram": "number of drawn images by this ratio, in 16 bins",
    r"statistics/(own/)?picture": "number of these training images, and sums of the values, squares and products of "
    "their brightness, contrast and roughness",
    r"statistics/(own/)?count": "number of training images of each class whose embeddings were summed",
    r"statistics/(own/)?sum": "for each class, the sum of the embeddings of its training images",
    r"statistics/(own/)?outer": "the sum of f f' over all these embeddings f, for the covariance",
    r"statistics/(own/)?withheld": "1 for each class that is left out of these sums because it has fewer images than "
    "`min-class-count`",
}


def page() -> str:
    """Run the two hospitals and return the page; raises SystemExit if a value has no explanation."""
    with tempfile.TemporaryDirectory() as temporary:
        config = hospital_run(Path(temporary))
        sent = sizes_of_replies(config, write_folders(Path(temporary) / "images"))
    if unknown := sorted(sent.keys() - _QUESTIONS.keys()):
        raise SystemExit(f"A node answers '{unknown[0]}', which has no heading: add one to {Path(__file__).name}.")
    lines = [_HEAD]
    for question, asked in _QUESTIONS.items():
        rows = list(_rows(sent[question]))
        total = sum(size for _, _, size in rows)
        lines += [f"## {asked}", "", f"`{question}`, {total:,} bytes in all.", ""]
        lines += ["| what | values | bytes |", "|---|---|---|"]
        lines += [f"| {what} | `{names}` | {size:,} |" for what, names, size in rows]
        lines += [""]
    return "\n".join([*lines, _TAIL])


def sizes_of_replies(config: RunConfig, folders: dict[str, Path]) -> dict[str, dict[str, int]]:
    """Run the hospitals; return the largest size of each value they sent: {kind of message: {record/key: bytes}}."""
    sent: dict[str, dict[str, int]] = {}

    def note(instruction: Message, reply: Message) -> Message:
        sizes = sent.setdefault(str(instruction.metadata.message_type), {})
        for name, value in values_of(reply):
            sizes[name] = max(_size(value), sizes.get(name, 0))
        return reply

    nodes = {
        number: {**_SMALL, "data-path": str(path), "site": site, "state-dir": str(path.parent.with_name("state"))}
        for number, (site, path) in enumerate(folders.items())
    }
    run_federation(config, len(folders), meddle=note, node_options=nodes)
    return sent


def values_of(reply: Message) -> Iterator[tuple[str, Any]]:
    """Yield each value in a reply, with its name `<record>/<key>`."""
    for name, record in reply.content.items():
        values = unpack(record) if isinstance(record, ArrayRecord) else record
        yield from ((f"{name}/{key}", value) for key, value in sorted(values.items()))


def explanation(name: str) -> str:
    """Return the explanation of the value `<record>/<key>`; raises SystemExit if there is none."""
    for pattern, text in _EXPLAINED.items():
        if re.fullmatch(pattern, name):
            return text
    raise SystemExit(f"A node sends '{name}', which no explanation covers: add one to {Path(__file__).name}.")


def _rows(sizes: dict[str, int]) -> Iterator[tuple[str, str, int]]:
    """Yield (explanation, names of the values, bytes) for each explanation."""
    together: dict[str, list[str]] = {}
    for name in sizes:
        together.setdefault(explanation(name), []).append(name)
    for text, names in together.items():
        shown = sorted({_short(name) for name in names})
        yield text, "`, `".join(shown), sum(sizes[name] for name in names)


def _short(name: str) -> str:
    """Shorten a name to `<record>` for a network's weights, else to `<record>/<key>` or `<record>/…/<last part>`."""
    record, *parts = name.split("/")
    if record in ("weights", "node-ema"):
        return record
    return f"{record}/{parts[0]}" if len(parts) == 1 else f"{record}/…/{parts[-1]}"


def _size(value: Any) -> int:
    """Return the bytes of an array, or of a number, text or list as Flower counts them."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, list):
        return sum(_size(one) for one in value)
    return len(value.encode()) if isinstance(value, str) else 8


def hospital_run(temporary: Path) -> RunConfig:
    """Return the options of a short run of both tasks, with every option on that makes nodes send more."""
    names = ",".join(str(digit) for digit in range(10))
    return default_config(
        {
            "tasks": "diffusion,classification",
            "output-dir": str(temporary / "runs"),
            "data.source": "folder",
            "data.class-names": names,
            "data.num-channels": 1,
            "data.image-size": 8,
            "diffusion.num-rounds": 1,
            "diffusion.epochs": 1.0,
            "diffusion.node-ema": True,
            "sampling.num-steps": 2,
            "sampling.images-per-class": 1,
            "classification.num-rounds": 1,
            "classification.readings": "consistent,piggyback",
            "classification.choose-by": "auc",
            "classification.replay": "generated",
            "classification.replay-images": 20,
        }
    )


def write_folders(root: Path) -> dict[str, Path]:
    """Write some digits into class folders for each hospital; return the hospitals' folders by name."""
    digits = load_split(default_config({"data.limit": 200}).data, "train", seed=0)
    for number in range(len(digits)):
        folder = root / SITES[number % len(SITES)] / digits.class_names[int(digits.labels[number])]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[number, 0].numpy()).save(folder / f"{FILE_NAME}-{number}.png")
    return {site: root / site for site in SITES}


_HEAD = """# What leaves the building

The program itself wrote this page (`python -m benchmarks.what_leaves docs/what-leaves-the-building.md`). Two hospitals
took part in a whole run of both tasks, and everything that their nodes sent was recorded. The program writes no page
if a value lacks an explanation. The sizes are for ten classes, grey images of 8 x 8 pixels and the default networks.
They grow with the networks and the number of classes, but not with the number of images.

**No image file, no file name, no path and no name or identifier of a patient leaves a hospital.** What leaves it:

- weights that were trained on its images;
- sums and counts over its images. Most are over many images, but not all: some are kept for each class, and a class may
  have one held-out image only. Then they describe this image ([what remains possible](#what-remains-possible));
- its name, the names of its classes, the number of images of each class, and which of its parts are too small;
- the number of files that it could not read, and of patients that it measured on;
- how long training took, and whether GPU memory was short;
- one sentence if something fails ([when something goes wrong](#when-something-goes-wrong)).

Nodes open connections to the server, and accept none.
"""

_TAIL = """## When something goes wrong

Instead of an answer the node sends one sentence without file names, such as *1 of 12 image files is missing or broken,
more than this node allows*. If the question was who it is, the hospital's name stands before the sentence. If the node
does not know the error, it sends only the name of the Python class (`MemoryError at the node; its log says more`).
Everything else stays in the log on the hospital's machine.

## What remains possible

Weights and sums are not images, but they are computed from images:

- A model can remember images that it was trained on.
- If a site has one image of a class, the sum over the class is that image's embedding. If a site has one image in all,
  the sums over brightness, contrast and roughness are that image's. So a node sums up no class with fewer than 5
  images, and takes part with 20 training images or more (node options `min-class-count`, `min-images`).
- Two sums over sets that differ by one image tell that image. So no option of a run changes which images a node uses,
  and images that were added or removed wait until 20 patients of a class have changed ([Your images](data.md)).
- Whoever runs the server can send weights that were made to show a single image, and reads it from the sums or from
  the trained weights: which such attacks fail, and which succeed, says the [threat model](threat-model.md).
- The number of images of each class always leaves.
- Right and wrong answers (`statistics/…/confusion`) and scores (`statistics/…/auroc`) on held-out and test images are
  counted for each class. `min-held-out` counts the images of all classes together. So if a class has one such image,
  its counts say how the model answers for this image.
- With three sites or more, `evaluate.heads` also asks for three counts a head (`statistics/left-out/…`): the held-out
  images of classes that two other sites hold, and how many of them a head without the node's sums has right, and how
  many the last layer.
- The counts of `query.membership` say in which of 128 bins the scores of training images lie, but not which image lies
  where. Whoever runs the server, and has an image, can score it: if its bin is empty, it was not among the scored
  images; if its bin has the only image far around, it probably was. The node sends these counts once in a run, and only
  of weights that are near those that it has trained.
- The node also draws images with the model, from noise that nobody else can compute, and counts near copies of its
  training images among them. No image and no pair leaves it: `fl-app copies` shows them at the hospital. The server
  cannot choose what is drawn, but weights can draw chosen images, each with a frequency of its own, and the count then
  tells which of them are among the training images. So these counts, too, leave once in a run, of weights near those
  that the node has trained.
- There is no differential privacy and no secure aggregation: whoever runs the server can see each site's weights and
  sums.
"""


def main() -> None:
    """Read the arguments and write the page."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("page", type=Path, help="file to write")
    arguments.parse_args().page.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
