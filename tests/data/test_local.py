"""Simulated nodes and hospitals: their names, images and state folders."""

from pathlib import Path

import pytest
import torch

from fl_app.config import NodeConfig, RunConfig
from fl_app.data.local import load_local, site_name, state_folder
from fl_app.data.sources import load_split
from fl_app.errors import DataError, OptionError
from fl_app.sections import OptionValue
from tests.data.conftest import write_images
from tests.options import run_config


def _simulated(partition_id: int, num_partitions: int = 3) -> NodeConfig:
    return NodeConfig.from_flat({"partition-id": partition_id, "num-partitions": num_partitions})


def _hospital(data_path: Path | str, **changes: OptionValue) -> NodeConfig:
    others = {name.replace("_", "-"): value for name, value in changes.items()}
    return NodeConfig.from_flat({"data-path": str(data_path), "site": "north", **others})


def _folder_run(**changes: OptionValue) -> RunConfig:
    options: dict[str, OptionValue] = {
        "source": "folder", "class-names": "a,b,c", "num-channels": 1, "image-size": 8, "validation-share": 0.25,
    }  # fmt: skip
    options |= {name.replace("_", "-"): value for name, value in changes.items()}
    return run_config({f"data.{name}": value for name, value in options.items()})


def _rows(images: torch.Tensor) -> list[bytes]:
    return sorted(bytes(image.flatten().tolist()) for image in images)


@pytest.mark.parametrize("scheme", ["iid", "dirichlet"])
def test_all_nodes_of_a_simulation_together_hold_the_whole_set(scheme: str) -> None:
    config = run_config({"data.source": "digits", "partition.scheme": scheme})
    nodes = [load_local(config, _simulated(number)) for number in range(3)]
    found = torch.cat([part.images for node in nodes for part in (node.train, node.validation)])
    assert _rows(found) == _rows(load_split(config.data, "train", 0).images)


def test_a_node_gets_the_same_images_in_every_round() -> None:
    config = run_config({"data.source": "digits"})
    first, again = (load_local(config, _simulated(1)) for _ in range(2))
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.validation.images, again.validation.images)


def test_a_node_without_images_is_legal() -> None:
    config = run_config({"data.source": "digits", "data.limit": 2, "partition.scheme": "iid"})
    node = load_local(config, _simulated(2))
    assert (len(node.train), len(node.validation)) == (0, 0)


def test_a_hospital_reads_its_folder(tmp_path: Path) -> None:
    local = load_local(_folder_run(), _hospital(write_images(tmp_path, {"a": 4, "c": 4})))
    assert local.site == "north"
    assert local.train.class_counts().tolist() == [3, 0, 3]
    assert local.validation.class_counts().tolist() == [1, 0, 1]


def test_a_hospital_reads_its_folder_whatever_the_source_which_then_says_what_is_agreed(tmp_path: Path) -> None:
    write_images(tmp_path, {"malignant": 3, "normal, benign": 2})
    local = load_local(run_config({"data.source": "breastmnist", "data.validation-share": 0.0}), _hospital(tmp_path))
    assert local.train.images.shape == (5, 1, 28, 28)
    assert local.train.labels.tolist() == [0, 0, 0, 1, 1]


def test_a_hospital_reads_its_own_folder_and_not_the_one_that_the_run_names(tmp_path: Path) -> None:
    write_images(tmp_path / "here", {"a": 2})
    config = _folder_run(directory=str(write_images(tmp_path / "there", {"b": 3})))
    assert len(load_local(config, _hospital(tmp_path / "here")).train.labels) == 1


def test_a_hospital_without_its_folder_tells_no_path(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_local(_folder_run(), _hospital(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert caught.value.public == "the data folder does not exist"


def test_names_of_sites() -> None:
    assert site_name(_simulated(2)) == "site-2"
    assert site_name(_hospital("/images")) == "north"


@pytest.mark.parametrize("site", ["", ".", ".."])
def test_a_hospital_needs_a_name_that_is_fit_for_a_folder(site: str) -> None:
    with pytest.raises(OptionError, match=r"Node option 'site' must consist of letters, .* got "):
        site_name(_hospital("/images", site=site))


@pytest.mark.parametrize("options", [{}, {"partition-id": 0}, {"num-partitions": 2}, {"site": "north"}])
def test_a_node_of_neither_kind_is_told_what_to_type(options: dict[str, OptionValue]) -> None:
    with pytest.raises(OptionError, match=r"flower-supernode --node-config 'data-path=.* site="):
        load_local(_folder_run(), NodeConfig.from_flat(options))


def test_a_partition_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OptionError, match="'partition-id' must be less than 'num-partitions', 3, got 3"):
        site_name(_simulated(3))


def test_a_simulated_node_keeps_its_state_in_the_run_folder() -> None:
    assert state_folder(_simulated(1), "/runs/x", "x") == Path("/runs/x/nodes/site-1")


def test_a_hospital_keeps_its_state_where_it_says_and_not_where_the_server_says(elsewhere: Path) -> None:
    assert state_folder(_hospital("/images", state_dir="/state"), "/runs/x", "x") == Path("/state/x/north")
    assert state_folder(_hospital("/images"), "/runs/x", "x") == elsewhere / "fl-app" / "state" / "x" / "north"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "a b", "a\n", "\0", "ä"])
def test_a_name_of_a_run_that_could_leave_the_folder_is_refused(name: str) -> None:
    for node in (_simulated(0), _hospital("/images")):
        with pytest.raises(OptionError, match="The run's name must consist of"):
            state_folder(node, "/runs/x", name)
