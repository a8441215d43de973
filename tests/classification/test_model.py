"""The exported folder: what comes back, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from fl_app.classification.heads import linear_head
from fl_app.classification.joining import add_site
from fl_app.classification.model import ClassifierModel, fingerprint, read_classifier, write_classifier
from fl_app.classification.moments import blank_moments, measure_moments, pool
from fl_app.classification.network import build_network
from fl_app.classification.prediction import classify
from fl_app.errors import OptionError, RunFolderError
from tests.classification.models import CPU, make_classifier, make_images, make_network

FILES = [
    "README.md",
    "SHA256SUMS",
    "classes.json",
    "heads.safetensors",
    "model.json",
    "model.safetensors",
    "prototypes.safetensors",
]
_REST: tuple[str, str, float, None, dict[str, Any]] = (
    "linear",
    "consistent",
    0.1,
    None,
    {},
)  # head, reading, shrinkage, distance, record


def save_as_earlier_versions_did(classifier: ClassifierModel, folder: Path) -> None:
    write_classifier(classifier, folder)
    (folder / "SHA256SUMS").unlink()


@pytest.fixture
def classifier() -> ClassifierModel:
    return make_classifier({"site-0": (20, 15, 0), "site-1": (5, 10, 0)}, abstain_distance=2.5)


def test_a_classifier_comes_back_as_it_was_saved(classifier: ClassifierModel, tmp_path: Path) -> None:
    write_classifier(classifier, tmp_path)
    found = read_classifier(tmp_path)
    for field in ("network", "embedding_size", "info", "shipped", "reading", "shrinkage", "abstain_distance", "record"):
        assert getattr(found, field) == getattr(classifier, field)
    assert fingerprint(found.weights) == fingerprint(classifier.weights)
    assert found.heads.keys() == classifier.heads.keys()
    for name, head in classifier.heads.items():
        assert np.array_equal(found.heads[name].weight, head.weight)
        assert np.array_equal(found.heads[name].bias, head.bias)
        assert found.heads[name].normalise == head.normalise
    for key, value in classifier.pooled.items():
        assert np.array_equal(found.pooled[key], value)


def test_the_second_moment_of_a_class_that_one_site_holds_is_not_written_and_comes_back_with_the_same_bits(
    tmp_path: Path,
) -> None:
    classifier = make_classifier({"site-0": (20, 15, 0), "site-1": (5, 0, 0)})
    write_classifier(classifier, tmp_path)
    written = load_file(tmp_path / "prototypes.safetensors")
    assert written["num-sites"].tolist() == [2, 1, 0]
    assert np.array_equal(written["site-outer"][0], classifier.pooled["site-outer"][0])
    assert classifier.pooled["site-outer"][1].any() and not written["site-outer"][1].any()
    assert json.loads((tmp_path / "model.json").read_text())["without-site-outer"] == ["bright"]
    assert np.array_equal(read_classifier(tmp_path).pooled["site-outer"], classifier.pooled["site-outer"])


def test_a_second_site_of_such_a_class_joins_as_if_it_had_been_there_from_the_start(tmp_path: Path) -> None:
    sites = {"site-0": (20, 15, 0), "site-1": (5, 0, 0)}
    write_classifier(make_classifier(sites), tmp_path)
    joining = measure_moments(make_network(), make_images((4, 9, 0), 2), CPU, 1)
    later, whole = (
        add_site(read_classifier(tmp_path), "site-2", joining),
        make_classifier({**sites, "site-2": (4, 9, 0)}),
    )
    assert np.allclose(later.pooled["site-outer"], whole.pooled["site-outer"], rtol=1e-12)
    assert np.allclose(later.heads["fedcof"].weight, whole.heads["fedcof"].weight, rtol=1e-6)


def test_an_export_that_an_earlier_version_wrote_with_all_moments_opens_as_one_of_today(tmp_path: Path) -> None:
    classifier = make_classifier({"site-0": (20, 15, 0), "site-1": (5, 0, 0)})
    write_classifier(classifier, tmp_path)
    arrays = {**classifier.pooled, "prototypes": classifier.prototypes}
    save_file(
        {name: np.ascontiguousarray(value) for name, value in arrays.items()}, tmp_path / "prototypes.safetensors"
    )
    document = json.loads((tmp_path / "model.json").read_text())
    del document["without-site-outer"]
    (tmp_path / "model.json").write_text(json.dumps(document))
    (tmp_path / "SHA256SUMS").unlink()
    assert np.array_equal(read_classifier(tmp_path).pooled["site-outer"], classifier.pooled["site-outer"])


@pytest.mark.parametrize(("licence", "stated"), [("CC BY-NC 4.0", "CC BY-NC 4.0"), (None, "not stated. The hospitals")])
def test_the_folder_states_the_licence_or_that_none_is_stated(
    classifier: ClassifierModel, tmp_path: Path, licence: str | None, stated: str
) -> None:
    record = classifier.record | ({"licence": licence} if licence else {})
    write_classifier(dataclasses.replace(classifier, record=record), tmp_path)
    assert f"\nLicence: {stated}" in (tmp_path / "README.md").read_text()


def test_prior_and_distance_come_back_and_an_older_classifier_opens_with_those_it_was_made_with(
    classifier: ClassifierModel, tmp_path: Path
) -> None:
    write_classifier(dataclasses.replace(classifier, prior="equal", abstain_by="mahalanobis"), tmp_path)
    found = read_classifier(tmp_path)
    assert (found.prior, found.abstain_by) == ("equal", "mahalanobis")
    document = json.loads((tmp_path / "model.json").read_text())
    older = {key: value for key, value in document.items() if key not in ("prior", "abstain-by")}
    (tmp_path / "model.json").write_text(json.dumps(older))
    (tmp_path / "SHA256SUMS").unlink()
    found = read_classifier(tmp_path)
    assert (found.prior, found.abstain_by) == ("training", "euclid")


def test_the_limit_of_pictures_comes_back_and_an_older_classifier_opens_without_a_test_of_pictures(
    classifier: ClassifierModel, tmp_path: Path
) -> None:
    write_classifier(dataclasses.replace(classifier, abstain_distance=None, abstain_picture_distance=0.01), tmp_path)
    images = make_images((2, 2, 2), 5).images
    assert classify(read_classifier(tmp_path), images, None, CPU).abstain.all()
    document = json.loads((tmp_path / "model.json").read_text())
    del document["abstain-picture-distance"]
    (tmp_path / "model.json").write_text(json.dumps(document))
    arrays = load_file(tmp_path / "prototypes.safetensors")
    del arrays["picture"]
    save_file(arrays, tmp_path / "prototypes.safetensors")
    (tmp_path / "SHA256SUMS").unlink()
    older = read_classifier(tmp_path)
    assert not classify(older, images, None, CPU).abstain.any()
    one_more = measure_moments(make_network(), make_images((3, 3, 3), 7), CPU, 1)
    assert not classify(add_site(older, "site-9", one_more), images, None, CPU).abstain.any()


def test_the_same_classifier_is_saved_as_the_same_bytes(classifier: ClassifierModel, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_classifier(classifier, tmp_path / name)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == FILES
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in FILES)


def test_the_network_that_is_built_is_the_one_that_was_saved(classifier: ClassifierModel) -> None:
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(classifier.build_network()(images), make_network().eval()(images))


def test_a_resnet_has_its_own_embedding_size_whatever_the_option_says(
    classifier: ClassifierModel, tmp_path: Path
) -> None:
    network = build_network(classifier.info, "resnet18", 6)
    pooled = pool([blank_moments(3, 512)])
    heads = {"linear": linear_head(np.ones((3, 512)), np.zeros(3), [True] * 3)}
    write_classifier(
        ClassifierModel("resnet18", 6, classifier.info, network.state_dict(), pooled, heads, *_REST), tmp_path
    )
    assert read_classifier(tmp_path).build_network().embedding_size == 512


def test_a_class_without_images_has_no_prototype_rather_than_a_zero_one(
    classifier: ClassifierModel, tmp_path: Path
) -> None:
    write_classifier(classifier, tmp_path)
    prototypes = load_file(tmp_path / "prototypes.safetensors")["prototypes"]
    assert classifier.known.tolist() == [True, True, False]
    assert np.isfinite(prototypes[:2]).all() and np.isnan(prototypes[2]).all()


def test_prototypes_are_the_mean_embeddings_of_all_sites_images(classifier: ClassifierModel) -> None:
    network = make_network().eval()
    held = [make_images((20, 15, 0), 0), make_images((5, 10, 0), 1)]
    dark = torch.cat([images.images[images.labels == 0] for images in held])
    with torch.no_grad():
        mean = network.embed(dark.float() / 127.5 - 1.0).double().mean(0)
    assert np.allclose(classifier.prototypes[0], mean.numpy(), rtol=0, atol=1e-6)


def test_other_weights_have_another_fingerprint(classifier: ClassifierModel) -> None:
    changed = {name: value.clone() for name, value in classifier.weights.items()}
    changed["linear.bias"][0] += 1e-6
    assert fingerprint(changed) != fingerprint(classifier.weights)
    assert fingerprint(dict(reversed(classifier.weights.items()))) == fingerprint(classifier.weights)


def test_an_unknown_head_is_refused_with_those_that_there_are(classifier: ClassifierModel) -> None:
    with pytest.raises(OptionError, match=r"no head 'svm'. Choose one of linear, nearest-mean, cosine, lda, fedcof\."):
        classifier.head("svm")


def test_a_head_that_is_not_defined_is_refused_with_the_reason() -> None:
    alone = make_classifier({"site-0": (20, 15, 3)})
    with pytest.raises(OptionError, match=r"'fedcof' is not defined in this model: no class is held by two sites"):
        alone.head("fedcof")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no classification model"):
        read_classifier(tmp_path)


@pytest.mark.parametrize("victim", [name for name in FILES if name not in ("model.json", "SHA256SUMS")])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "text"])
def test_a_damaged_file_is_an_error_of_ours(
    classifier: ClassifierModel, tmp_path: Path, victim: str, damage: str
) -> None:
    write_classifier(classifier, tmp_path)
    file = tmp_path / victim
    content = {"cut": file.read_bytes()[:20], "empty": b"", "text": b"\xff no such thing"}
    file.unlink() if damage == "missing" else file.write_bytes(content[damage])
    with pytest.raises(RunFolderError, match=rf"is damaged: .*{victim}.*Copy it again"):
        read_classifier(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"network": "../cnn"},
        {"embedding-size": 7},
        {"num-channels": 3},
        {"image-size": 4},
        {"image-size": 64},
        {"shipped": "svm"},
        {"format": 2},
        {"shrinkage": None},
        {"surprise": 1},
        {"prior": "flat"},
        {"abstain-by": "cosine"},
        {"weights-sha256": "0"},
    ],
)
def test_values_that_contradict_each_other_are_an_error_of_ours(
    classifier: ClassifierModel, tmp_path: Path, change: dict[str, object]
) -> None:
    save_as_earlier_versions_did(classifier, tmp_path)
    file = tmp_path / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(RunFolderError, match="is damaged"):
        read_classifier(tmp_path)


def test_flipped_bits_in_the_weights_are_found(classifier: ClassifierModel, tmp_path: Path) -> None:
    save_as_earlier_versions_did(classifier, tmp_path)
    file = tmp_path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunFolderError, match="the weights are not those that were saved"):
        read_classifier(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sums_that_are_not_finite_are_found(classifier: ClassifierModel, tmp_path: Path, value: float) -> None:
    save_as_earlier_versions_did(classifier, tmp_path)
    arrays = load_file(tmp_path / "prototypes.safetensors")
    arrays["outer"][0, 0] = value
    save_file(arrays, tmp_path / "prototypes.safetensors")
    with pytest.raises(RunFolderError, match="a sum is not finite"):
        read_classifier(tmp_path)


def test_a_classifier_whose_class_names_do_not_fit_is_refused(classifier: ClassifierModel, tmp_path: Path) -> None:
    write_classifier(
        dataclasses.replace(classifier, info=dataclasses.replace(classifier.info, class_names=("a", "b"))), tmp_path
    )
    with pytest.raises(RunFolderError, match="is damaged"):
        read_classifier(tmp_path)


@pytest.mark.parametrize("victim", FILES)
def test_a_flipped_bit_in_any_file_is_found(classifier: ClassifierModel, tmp_path: Path, victim: str) -> None:
    write_classifier(classifier, tmp_path)
    file = tmp_path / victim
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"is damaged: .*Copy it again"):
        read_classifier(tmp_path)


def test_numbers_that_are_not_finite_are_not_written(classifier: ClassifierModel, tmp_path: Path) -> None:
    weights = {name: value.clone() for name, value in classifier.weights.items()}
    weights["linear.bias"][0] = np.nan
    with pytest.raises(RunFolderError, match=r"linear\.bias holds a number that is not finite"):
        write_classifier(dataclasses.replace(classifier, weights=weights), tmp_path)
    assert list(tmp_path.iterdir()) == []
