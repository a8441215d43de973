"""Hospitals' folders of real images, with names that must never reach the server."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

CANARY = "MEIER_HANS_19510203"  # a patient's name in every file's name
PATIENT = "PID-8410277"  # and the beginning of every patient's number
CLASSES = ("one", "zero")


def write_folders(root: Path, sites: tuple[str, ...], num_images: int = 40) -> dict[str, Path]:
    """Write each site's images, `<root>/<site>/<class>/<patient>.png`, no image at two sites.

    The last site has a table of labels and patients, too.

    Args:
        root: of all folders.
        sites: their names.
        num_images: of each site, half of each class.

    Returns:
        The folders by site.
    """
    digits = load_digits()
    for label, name in ((1, "one"), (0, "zero")):
        images = digits.images[digits.target == label]
        for i, image in enumerate(images[: len(sites) * num_images // 2]):
            folder = root / sites[i % len(sites)] / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15).astype(np.uint8)).save(folder / f"{CANARY}-{i:03d}.png")
    files = sorted((root / sites[-1]).rglob("*.png"))
    rows = [f"{path.relative_to(root / sites[-1])},{path.parent.name},{PATIENT}-{i}" for i, path in enumerate(files)]
    (root / sites[-1] / "labels.csv").write_text("\n".join(["file,label,patient", *rows]) + "\n")
    return {site: root / site for site in sites}


def find_private(root: Path, folders: list[Path], ignored: tuple[str, ...] = ()) -> list[str]:
    """Search all files below `root` for what is private: names of files and folders, and images as bytes or pixels.

    Returns:
        A line for each find.
    """
    secrets = {"a patient's name": CANARY.encode(), "a patient's number": PATIENT.encode()}
    for folder in folders:
        secrets[f"the folder of {folder.name}"] = str(folder).encode()
        for path in sorted(folder.rglob("*.png"))[:5]:
            with Image.open(path) as image:
                pixels = np.asarray(image)
            secrets[f"the file of {path}"] = path.read_bytes()
            secrets[f"the pixels of {path}"] = pixels.tobytes()
            secrets[f"the floats of {path}"] = (pixels.astype(np.float32) / 127.5 - 1).tobytes()
    found = []
    for file in sorted(path for path in root.rglob("*") if path.is_file() and path.name not in ignored):
        content = file.read_bytes()
        found += [f"{file} holds {what}" for what, secret in secrets.items() if secret in content]
    return found
