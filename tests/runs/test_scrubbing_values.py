"""What a hospital's tables, folders and headers hold is taken out of messages; what support needs stays."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_app.data.entries import list_entries
from fl_app.data.images import DatasetInfo
from fl_app.errors import DataError, FederationError
from fl_app.messages.descriptions import SiteDescription
from fl_app.runs.scrubbing import scrub
from fl_app.runs.scrubbing_values import known_words
from fl_app.strategies.agreement import common_info

NAMES = ["MUELLER", "O'Brien", "Doe, Jane", "Roe. Did you", "15"]


def is_clean(text: str, name: str) -> bool:
    return not any(word in text for word in (name, *name.replace("'", ", ").split(", ")) if len(word) > 1)


def site(name: str, *classes: str) -> SiteDescription:
    counts = [1] * len(classes)
    return SiteDescription(name, DatasetInfo(classes, 1, 8), counts, counts, counts)


def write_table(folder: Path, label: str, part: str = "train") -> Path:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a.png")
    (folder / "labels.csv").write_text(f'file,label,split\na.png,"{label}",{part}\n')
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_label_of_a_table(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        list_entries(write_table(tmp_path, name), ["benign", "malignant"])
    found = scrub(f"ERROR : {caught.value}")
    assert is_clean(found, name) and "is not a class of this run; its classes are [values]" in found


def test_a_wrong_part_of_a_table(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list_entries(write_table(tmp_path, "benign", "Mueller"))
    assert "mueller" in str(caught.value)
    assert "has the split [value]; expected train, val" in scrub(str(caught.value))


@pytest.mark.parametrize("name", NAMES)
def test_folders_beside_the_training_images(tmp_path: Path, name: str) -> None:
    for folder in ("train/benign", name):
        (tmp_path / folder).mkdir(parents=True)
        write_table(tmp_path / folder, "benign")
        (tmp_path / folder / "labels.csv").unlink()
    with pytest.raises(DataError) as caught:
        list_entries(tmp_path)
    assert name in str(caught.value)
    found = scrub(str(caught.value))
    assert is_clean(found, name) and "images, in: [values]. Move them into 'train', 'val' or 'test'" in found


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_no_class(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DataError) as caught:
        list_entries(tmp_path, ["benign", "malignant"])
    found = scrub(str(caught.value))
    assert is_clean(found.replace(str(tmp_path), ""), name) and "its classes are [values]" in found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sites", ["north south", "north south east west"])
def test_class_names_that_sites_disagree_on(name: str, sites: str) -> None:
    described = [site(one, name if one in ("south", "west") else "benign", "x") for one in sites.split()]
    with pytest.raises(FederationError) as caught:
        common_info(described)
    assert name in str(caught.value)
    found = scrub(str(caught.value), (), known_words() | {"north", "south", "east", "west"})
    assert is_clean(found, name) and "benign" not in found
    assert "Compared with 'east'" in found or "Compared with 'north'" in found
    assert "Change the folders, or state 'data.class-names' and 'data.num-channels': then a site may lack" in found


def test_other_differences_of_a_site_stay() -> None:
    text = "Site 'a' has other classes than the run: extra Roe; other channels than the run: found 1, expected 3"
    expected = "Site 'a' has other classes than the run: [values]; other channels than the run: found 1, expected 3"
    assert scrub(text, (), {"a"}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "INFO : 2 of 3 sites have the classes Mueller, Roe; 1 channels",
        "WARNING : A site is left out: compared with 'a', 'b' has other classes than the run: extra Mueller",
        "Option 'data.class-names' must name each class once, got Mueller, Mueller.",
        "x.npz holds no array train_images. Expected train_images, and val_… in pairs; found Mueller, Roe.",
        "Training images: Mueller 5, Roe 3. None of Doe: if you have such images, check the names of your folders.",
        "Because of 'min-class-count', no prototype of Mueller, Roe leaves this node.",
        "a.dcm holds no image: it is of kind 'Mueller'.",
        "labels.csv, line 1 has several columns 'Mueller'.",
        "KeyError: 'Mueller'",
        "ValueError: invalid literal for int() with base 10: 'Mueller'",
        'ValueError: "O\'Mueller" is not in list',
    ],
)
def test_values_in_other_messages(text: str) -> None:
    found = scrub(text)
    assert not any(name in found for name in ("Mueller", "Roe", "Doe"))


@pytest.mark.parametrize(
    "text",
    [
        "1 of 3 nodes contributed, 'federation.min-replies' asks for 2",
        "By option 'min-images' the part 'test' is not used; the head 'lda' cannot be built",
        "2 of 2 sites sent valid sums for 'query.moments'",
        "the sites' means of each class; the site's images don't fit",
        'details = "failed to connect to all addresses; last error: Connection refused"',
        '  File "[…]/fl_app/data/folder.py", line 5, in read\n    raise DataError(f"it is \'{what}\'")',
    ],
)
def test_what_support_needs_stays(text: str) -> None:
    assert scrub(text) == text
