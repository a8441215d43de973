"""Feature networks: what they return, and which files they are read from."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fl_app.classification.network import build_network, embed
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.loading import to_float
from fl_app.errors import FlAppError
from fl_app.quality.features import (
    Embedding,
    FeatureNetworkError,
    Kind,
    Pixels,
    batch_features,
    open_network,
    read_file,
    set_features,
)

CPU = torch.device("cpu")


def images(count: int, channels: int = 1, side: int = 8) -> ImageSet:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.zeros(count, dtype=torch.int64), ("a", "b"))


def resnet18(num_classes: int = 1000) -> nn.Module:
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = models.resnet18(num_classes=num_classes)
    with torch.no_grad():  # statistics that differ from those of a new network
        for name, value in network.state_dict().items():
            if "running" in name:
                value.add_(torch.linspace(0.1, 0.5, len(value)))
    return network.eval()


def saved(path: Path, weights: dict[str, Tensor], **metadata: str) -> tuple[Path, str]:
    """Write a file; return it and its SHA-256."""
    save_file({name: value.contiguous() for name, value in weights.items()}, path, metadata or None)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("secret-folder") / "resnet18.safetensors"
    return saved(path, resnet18().state_dict(), architecture="resnet18")


def read_network(path: Path, kind: Kind, approved: list[str]) -> nn.Module:
    return open_network(read_file(path, kind), kind, approved)


def refused(path: Path, approved: list[str], kind: Kind = "file") -> FlAppError:
    with pytest.raises(FeatureNetworkError) as caught:
        read_network(path, kind, approved)
    assert path.name not in caught.value.public and str(path.parent) not in caught.value.public
    assert kind in caught.value.public
    return caught.value


@pytest.mark.parametrize(
    ("channels", "side", "size"), [(1, 8, 64), (3, 8, 192), (1, 28, 256), (3, 28, 243), (3, 1, 3), (1, 17, 256)]
)
def test_pixels_have_at_most_256_features_whatever_the_size(channels: int, side: int, size: int) -> None:
    found = set_features(Pixels(), images(3, channels, side), CPU)
    assert found.shape == (3, size) and found.dtype == np.float64


def test_pixels_of_a_small_image_are_the_image_and_those_of_a_large_one_the_means_of_its_cells() -> None:
    small, large = (to_float(images(2, side=side).images) for side in (8, 32))
    np.testing.assert_array_equal(batch_features(Pixels(), small), small.flatten(1).numpy())
    cells = large.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)).flatten(1)
    np.testing.assert_allclose(batch_features(Pixels(), large), cells.numpy(), atol=1e-6)


def test_the_features_of_a_classifier_are_its_embedding() -> None:
    network = build_network(DatasetInfo(("a", "b"), 1, 8), "cnn", 12)
    found = set_features(Embedding(network), images(70), CPU)  # more than a batch
    with torch.no_grad():
        np.testing.assert_allclose(found, embed(network, to_float(images(70).images)), atol=1e-6)


def test_measuring_leaves_a_network_in_the_mode_it_was_in_and_takes_eval_mode_itself() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    found = [set_features(network.train(), images(5), CPU) for _ in range(2)]
    assert network.training
    np.testing.assert_array_equal(found[0], found[1])
    set_features(network.eval(), images(5), CPU)
    assert not network.training


@pytest.mark.parametrize("count", [0, 1, 64, 65])
def test_a_set_of_any_size_has_a_row_of_features_for_each_image(count: int) -> None:
    assert set_features(Pixels(), images(count), CPU).shape == (count, 64)


def test_a_file_gives_the_features_before_the_last_layer_of_resized_normalised_rgb(exported: tuple[Path, str]) -> None:
    network = read_network(exported[0], "file", [exported[1]])
    found = set_features(network, images(2), CPU)
    whole = resnet18()
    whole.fc = nn.Identity()
    batch = nn.functional.interpolate(to_float(images(2).images), size=(224, 224), mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = ((batch.repeat(1, 3, 1, 1) + 1) / 2 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    with torch.no_grad():
        np.testing.assert_allclose(found, whole(normal).numpy(), rtol=1e-4, atol=1e-4)
    assert found.shape == (2, 512) and not any(p.requires_grad for p in network.parameters())


def test_grey_images_and_the_same_in_three_equal_channels_have_the_same_features(exported: tuple[Path, str]) -> None:
    network, grey = read_network(exported[0], "file", [exported[1]]), to_float(images(1).images)
    np.testing.assert_allclose(
        batch_features(network, grey), batch_features(network, grey.repeat(1, 3, 1, 1)), atol=1e-5
    )


def test_no_images_have_as_many_features_as_some(exported: tuple[Path, str]) -> None:
    assert set_features(read_network(exported[0], "file", [exported[1]]), images(0), CPU).shape == (0, 512)


@pytest.mark.parametrize("num_classes", [2, 0])
def test_a_file_may_have_another_head_or_none_and_no_counts_of_batches(num_classes: int, tmp_path: Path) -> None:
    weights = {
        name: value
        for name, value in resnet18(num_classes or 5).state_dict().items()
        if not name.endswith("num_batches_tracked") and (num_classes or not name.startswith("fc."))
    }
    path, digest = saved(tmp_path / "own", weights, architecture="resnet18")
    assert set_features(read_network(path, "file", [digest]), images(1), CPU).shape == (1, 512)


def test_inception_has_2048_features_and_needs_no_metadata(tmp_path: Path) -> None:
    from torchvision import models

    whole = models.inception_v3(weights=None, init_weights=False)  # with its auxiliary head, as exported
    path, digest = saved(tmp_path / "inception", whole.state_dict())
    network = read_network(path, "inception", [digest.upper()])
    found = set_features(network, images(1), CPU)
    whole.eval().fc = nn.Identity()
    batch = nn.functional.interpolate(to_float(images(1).images), size=(299, 299), mode="bilinear", antialias=True)
    with torch.no_grad():  # published weights are for images in [-1, 1]
        np.testing.assert_allclose(found, whole(batch.repeat(1, 3, 1, 1)).numpy(), rtol=1e-3, atol=1e-3)
    assert found.shape == (1, 2048)
    assert "inception_v3" in str(refused(*_renamed(path, "resnet18"), "inception"))


def _renamed(path: Path, architecture: str) -> tuple[Path, list[str]]:
    """Write a file of one number that names this architecture beside the given one."""
    other, digest = saved(path.parent / "renamed", {"weight": torch.zeros(1)}, architecture=architecture)
    return other, [digest]


def test_a_file_that_is_not_approved_is_refused_with_its_hash_and_the_option(exported: tuple[Path, str]) -> None:
    for approved in ([], ["0" * 64]):
        error = refused(exported[0], approved)
        assert exported[1] in str(error) and "quality-networks" in str(error) and "quality-networks" in error.public
        assert exported[1] not in error.public  # a server could ask by it what a file holds


def test_a_changed_byte_makes_a_file_another_one(exported: tuple[Path, str], tmp_path: Path) -> None:
    data = bytearray(exported[0].read_bytes())
    data[-1] ^= 1
    (tmp_path / "changed").write_bytes(data)
    assert "not approved" in str(refused(tmp_path / "changed", [exported[1]]))


def test_an_absent_file_is_one_error_that_says_what_it_is_and_how_to_export_it(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        error = refused(path, [], "inception")
        assert "inception_v3" in str(error) and "save_file" in str(error)


@pytest.mark.parametrize("data", [b"", b"weights", (2**40).to_bytes(8, "little") + b"{}", b"\x80\x04K\x01."])
def test_a_damaged_file_or_a_pickle_is_one_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file-1").write_bytes(data)
    error = refused(tmp_path / "file-1", [hashlib.sha256(data).hexdigest()])
    assert "no safetensors file" in str(error)


@pytest.mark.parametrize(
    "named", ["resnet19", "", "os.system", "quantized_resnet18", "fcos_resnet50_fpn", "raft_small"]
)
def test_only_classifiers_of_torchvision_are_accepted_as_architecture(named: str, tmp_path: Path) -> None:
    path, approved = _renamed(tmp_path / "file", named)
    assert f"got '{named}'" in str(refused(path, approved))
    no_metadata, digest = saved(tmp_path / "bare", {"weight": torch.zeros(1)})
    assert "got ''" in str(refused(no_metadata, [digest]))


def test_an_architecture_without_a_linear_layer_is_refused(tmp_path: Path) -> None:
    assert "no linear layer" in str(refused(*_renamed(tmp_path / "file", "squeezenet1_0")))


def test_missing_further_and_misshapen_weights_are_named_in_one_error(tmp_path: Path) -> None:
    weights = resnet18().state_dict()
    del weights["conv1.weight"]
    weights["conv9.weight"] = torch.zeros(1)
    weights["bn1.weight"] = torch.zeros(3)
    path, digest = saved(tmp_path / "wrong", weights, architecture="resnet18")
    text = str(refused(path, [digest]))
    assert "conv1.weight is missing; conv9.weight is unknown; bn1.weight must be [64], got [3]." in text
    path, approved = _renamed(tmp_path / "file", "resnet18")
    assert " and " in str(refused(path, approved)) and " more. Export" in str(refused(path, approved))


def test_reading_a_network_draws_no_random_numbers(exported: tuple[Path, str]) -> None:
    before = torch.get_rng_state()
    read_network(exported[0], "file", [exported[1]])
    assert torch.equal(torch.get_rng_state(), before)


def test_torchvision_is_not_imported_until_a_network_is_read() -> None:
    code = "import sys, fl_app.quality.features; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
