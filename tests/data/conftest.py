"""What the tests of images share: no real folders, no network, small folders of images."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fl_app.data.files import DIRECTORY_VARIABLE

torch.set_num_threads(1)

_REAL_DATA = os.environ.get(DIRECTORY_VARIABLE, "")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no test see the user's data, cache or home; return the folder that stands for the home."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.delenv(DIRECTORY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def real_data() -> Path:
    """Return the folder of published data sets, or skip the test."""
    if not _REAL_DATA:
        pytest.skip(f"${DIRECTORY_VARIABLE} is not set: no published data sets to read")
    return Path(_REAL_DATA)


def write_images(folder: Path, counts: Mapping[str, int], size: tuple[int, int] = (6, 6), mode: str = "L") -> Path:
    """Write PNG files of random pixels, so many of each class; return the folder."""
    generator = np.random.default_rng(0)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"patient-{number}.png")
    return folder
