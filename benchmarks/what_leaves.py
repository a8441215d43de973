"""What leaves the building: every kind of value that a hospital's node sends, with its size, as a page.

Two hospitals with folders of images go through a whole run of both tasks, every option on that makes them send more.
Each value in their replies must have an explanation here, else nothing is written: so the page cannot forget one.

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

SITES = ("north", "south")
FILE_NAME = "patient-mueller"  # is never sent: a test looks for it

_QUESTIONS = {
    "query.describe": "Who are you? Asked once, before the first round",
    "train": "Train this model. Asked once a round",
    "query.moments": "Sum up your embeddings. Asked after the last round of `classification`",
    "evaluate.heads": "How good are these heads? Asked after `query.moments`",
    "evaluate": "How good are these models? Asked once at the end of each task",
}
_EXPLAINED = {
    r"node/site": "the name that the hospital gave itself",
    r"node/class-names": "the names of the classes",
    r"node/(num-channels|image-size)": "channels and side of the images, as the run's options have them",
    r"node/(train|validation|test)-counts": "how many images of each class there are to train on, held out, and tested "
    "on",
    r"node/test-shares": "into how many shares the nodes of a simulation split a common test set; at a "
    "hospital always 0",
    r"node/unreadable-files": "how many files were left out because they are missing or broken",
    r"node/(task|server-round)": "which task and round this answers",
    r"weights/.*": "the network's weights after local training",
    r"node-ema/.*": "the average of those weights over the steps of training, with `diffusion.node-ema`",
    r"metrics/num-examples": "number of training images",
    r"metrics/loss-(sum|count)": "sum of the training losses, and how many they are",
    r"metrics/seconds": "how long the training took",
    r"metrics/num-pieces": "into how many pieces batches were cut for want of GPU memory",
    r"statistics/(raw|ema|node-ema|initial)/loss-(sum|count)": "sum and number of the denoising losses of held-out "
    "images in four bands of noise, for each received set of weights",
    r"statistics/.*/confusion": "held-out or test images counted by true and predicted class, for each received "
    "network or head",
    r"statistics/.*/auroc": "held-out or test images counted by score, in 128 bins a class, for the AUC",
    r"statistics/.*/nll(-count|-tempered|-runner-up)?": "sum of the held-out or test images' negative "
    "log-likelihoods, of the right and of the second best class, at 41 temperatures",
    r"statistics/.*/paired": "held-out or test images of each class that a head alone has right, and that the "
    "network's own last layer alone has right",
    r"statistics/.*/patients": "number of patients of the held-out or test images (of images if patients are not "
    "known), and sums over them of squares and products of each one's number of images and of right ones; a site with "
    "fewer than 5 sends these sums as if all its images were one patient's",
    r"statistics/.*/joint": "held-out or test images counted by the scores of a head and of the network's own "
    'last layer together, in 33 x 33 bins a class, with `classification.choose-by = "auc"` alone',
    r"statistics/validation/distance": "held-out images counted by distance from the nearest prototype",
    r"statistics/validation/picture-distance": "held-out images counted by how far brightness, contrast and roughness "
    "lie from those of the training images",
    r"statistics/(own/)?picture": "count of these training images, and sums of squares, products and values of their "
    "brightness, contrast and roughness",
    r"statistics/(own/)?count": "training images of each class whose embeddings were summed",
    r"statistics/(own/)?sum": "for each class the sum of the embeddings of its training images",
    r"statistics/(own/)?outer": "the sum of f f' over all those embeddings f, for the covariance",
    r"statistics/(own/)?withheld": "1 for each class with fewer images than `min-class-count`: nothing of it is summed",
}


def page() -> str:
    """Run the two hospitals and return the page; raises SystemExit where a value has no explanation."""
    with tempfile.TemporaryDirectory() as temporary:
        config = hospital_run(Path(temporary))
        sent = sizes_of_replies(config, write_folders(Path(temporary) / "images"))
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
    """Run the hospitals and return the largest size of each value they sent: {kind of message: {record/key: bytes}}."""
    sent: dict[str, dict[str, int]] = {}

    def note(instruction: Message, reply: Message) -> Message:
        sizes = sent.setdefault(str(instruction.metadata.message_type), {})
        for name, value in values_of(reply):
            sizes[name] = max(_size(value), sizes.get(name, 0))
        return reply

    nodes = {number: {**_ALL_IMAGES, "data-path": str(path), "site": site} for number, (site, path) in enumerate(folders.items())}
    run_federation(config, len(folders), meddle=note, node_options=nodes)
    return sent


def values_of(reply: Message) -> Iterator[tuple[str, Any]]:
    """Yield `<record>/<key>` and value of everything in a reply."""
    for name, record in reply.content.items():
        values = unpack(record) if isinstance(record, ArrayRecord) else record
        yield from ((f"{name}/{key}", value) for key, value in sorted(values.items()))


def explanation(name: str) -> str:
    """Return what a value is, by `<record>/<key>`; raises SystemExit where nobody has said it."""
    for pattern, text in _EXPLAINED.items():
        if re.fullmatch(pattern, name):
            return text
    raise SystemExit(f"A node sends '{name}', which no explanation covers: add one to {Path(__file__).name}.")


def _rows(sizes: dict[str, int]) -> Iterator[tuple[str, str, int]]:
    """Yield (explanation, names of the values, bytes), values of one explanation together."""
    together: dict[str, list[str]] = {}
    for name in sizes:
        together.setdefault(explanation(name), []).append(name)
    for text, names in together.items():
        shown = sorted({_short(name) for name in names})
        yield text, "`, `".join(shown), sum(sizes[name] for name in names)


def _short(name: str) -> str:
    """Return `<record>` of a network's weights, `<record>/…/<last part>` of what has a longer name."""
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
    """Return a short run of both tasks, with every option on that makes nodes send more."""
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
        }
    )


def write_folders(root: Path) -> dict[str, Path]:
    """Write a few digits into a folder for each class, for each hospital; return the hospitals' folders."""
    digits = load_split(default_config({"data.limit": 200}).data, "train", seed=0)
    for number in range(len(digits)):
        folder = root / SITES[number % len(SITES)] / digits.class_names[int(digits.labels[number])]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[number, 0].numpy()).save(folder / f"{FILE_NAME}-{number}.png")
    return {site: root / site for site in SITES}


_HEAD = """# What leaves the building

This page is made by the program itself (`python -m benchmarks.what_leaves`): two hospitals go through a whole run of
both tasks, and everything that their nodes send is written down. A value without an explanation stops it. The sizes
are those of ten classes, grey images of 8 x 8 pixels and the default networks, both tasks together; they grow with the
networks and the number of classes, and not with the number of images.

**No image, no pixel, no file name, no path, no patient's value is sent.** What is sent about images is sums and counts
over many of them, and weights that were trained on them. Nodes open connections to the server only, and take none.
"""

_TAIL = """## When something goes wrong

Instead of an answer the node sends a sentence such as *an image is broken*, without the name of the file; where it is
asked who it is, the hospital's own name stands before it. Of an error that it does not know it sends the name of the
Python class alone (`MemoryError at the node; its log says more`). Everything else stays in
the log on the hospital's machine.

## What this does not mean

Weights and sums are not images, but they are computed from images. A model can remember what it was trained on; the sum
over a class of which a site holds one image is that image's embedding, and the sums over brightness, contrast and
roughness of a site with one image are that image's. `min-class-count` in the node's own options keeps such classes out
of every sum. Counts per class do leave. No differential privacy and no secure aggregation
is applied: whoever runs the server can look at each site's weights and sums.
"""


def main() -> None:
    """Read the arguments and write the page."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("page", type=Path, help="file to write")
    arguments.parse_args().page.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
