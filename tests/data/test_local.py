"""Simulated nodes and hospitals: their names, images and state folders."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_app.data.sources import load_split
from fl_app.errors import DataError, OptionError
from fl_app.node.images import load_local
from fl_app.node.state import site_name, state_folder
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from tests.data.conftest import write_images
from tests.data.dicoms import CANARY, write_dicom
from tests.options import NO_MINIMUMS, run_config


def _simulated(partition_id: int, num_partitions: int = 3) -> NodeConfig:
    return NodeConfig.from_flat({"partition-id": partition_id, "num-partitions": num_partitions})


def _hospital(data_path: Path | str, **changes: OptionValue) -> NodeConfig:
    others = {name.replace("_", "-"): value for name, value in changes.items()}
    own = {"data-path": str(data_path), "site": "north", "validation-share": 0.25, "test-share": 0.0}
    return NodeConfig.from_flat(NO_MINIMUMS | own | others)


def _folder_run(**changes: OptionValue) -> RunConfig:
    options: dict[str, OptionValue] = {
        "source": "folder", "class-names": "a,b,c", "num-channels": 1, "image-size": 8, "validation-share": 0.25,
        "test-share": 0.0,
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
    local = load_local(_folder_run(), _hospital(write_images(tmp_path, {"a": 40, "c": 40})))
    assert local.site == "north"
    assert (local.train.class_counts() + local.validation.class_counts()).tolist() == [40, 0, 40]
    assert 8 <= len(local.validation) <= 34 and local.validation.class_counts()[1] == 0


def test_a_hospital_reads_its_folder_whatever_the_source_which_then_says_what_is_agreed(tmp_path: Path) -> None:
    write_images(tmp_path, {"malignant": 3, "normal, benign": 2})
    local = load_local(run_config({"data.source": "breastmnist"}), _hospital(tmp_path, validation_share=0.0))
    assert local.train.images.shape == (5, 1, 28, 28)
    assert local.train.labels.tolist() == [0, 0, 0, 1, 1]


def test_a_hospital_reads_its_own_folder_and_not_the_one_that_the_run_names(tmp_path: Path) -> None:
    write_images(tmp_path / "here", {"a": 2})
    config = _folder_run(directory=str(write_images(tmp_path / "there", {"b": 3})))
    assert len(load_local(config, _hospital(tmp_path / "here", validation_share=0.0)).train.labels) == 2


def test_a_hospital_without_its_folder_tells_no_path(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_local(_folder_run(), _hospital(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert caught.value.public == "the data folder does not exist"


def test_names_of_sites() -> None:
    assert site_name(_simulated(2)) == "site-2"
    assert site_name(_hospital("/images")) == "north"


@pytest.mark.parametrize("site", ["", ".", "..", "a..b", "x" * 65])
def test_a_hospital_needs_a_name_that_is_fit_for_a_folder(site: str) -> None:
    with pytest.raises(OptionError, match=r"ption 'site' must (consist of the letters|have at most 64).* got "):
        site_name(_hospital("/images", site=site))


@pytest.mark.parametrize("options", [{}, {"partition-id": 0}, {"num-partitions": 2}, {"site": "north"}])
def test_a_node_of_neither_kind_is_told_what_to_type(options: dict[str, OptionValue]) -> None:
    with pytest.raises(OptionError, match=r"fl-app supernode --node-config 'data-path=.* site="):
        load_local(_folder_run(), NodeConfig.from_flat(options))


def test_a_partition_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OptionError, match="'partition-id' must be less than 'num-partitions', 3, got 3"):
        site_name(_simulated(3))


def test_a_simulated_node_keeps_its_state_in_the_run_folder(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert state_folder(_simulated(1), str(tmp_path), "x", "diffusion") == tmp_path / "nodes/site-1/diffusion"


def test_a_simulated_node_writes_into_no_folder_that_is_not_a_runs(tmp_path: Path, elsewhere: Path) -> None:
    for named in (str(tmp_path), "", str(tmp_path / "nowhere")):
        found = state_folder(_simulated(1), named, "x", "diffusion")
        assert found == elsewhere / "fl-app" / "state" / "x" / "site-1" / "diffusion"


def test_a_hospital_keeps_its_state_where_it_says_and_not_where_the_server_says(elsewhere: Path) -> None:
    found = state_folder(_hospital("/images", state_dir="/state"), "/runs/x", "x", "diffusion")
    assert found == Path("/state/x/north/diffusion")
    found = state_folder(_hospital("/images"), "/runs/x", "x", "diffusion")
    assert found == elsewhere / "fl-app" / "state" / "x" / "north" / "diffusion"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "a b", "a\n", "\0", "ä"])
def test_a_name_in_a_message_that_could_leave_the_folder_is_refused(name: str) -> None:
    for node in (_simulated(0), _hospital("/images")):
        with pytest.raises(OptionError, match="The run's name must consist of"):
            state_folder(node, "/runs/x", name, "diffusion")
        with pytest.raises(OptionError, match="The task's name must consist of"):
            state_folder(node, "/runs/x", "x", name)


@given(st.text(max_size=20) | st.text("./\\-ab\0", max_size=20), st.text("./a-", max_size=20))
def test_whatever_a_message_names_the_state_stays_in_the_state_folder(run_name: str, task: str) -> None:
    try:
        found = state_folder(_hospital("/images", state_dir="/state"), "/elsewhere", run_name, task)
    except OptionError:
        return
    assert Path(os.path.normpath(found)).parts[:2] == ("/", "state") and len(found.parts) == 5


def _table(folder: Path, lines: list[str]) -> Path:
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def test_a_hospital_with_patients_holds_out_whole_patients(tmp_path: Path) -> None:
    write_images(tmp_path, {"files": 120})
    lines = [f"files/patient-{number}.png,{'ab'[number % 2]},anna-{number // 3}" for number in range(120)]
    local = load_local(_folder_run(), _hospital(_table(tmp_path, ["file,label,patient", *lines])))
    assert local.train.patients is not None and local.validation.patients is not None
    assert len(local.train) + len(local.validation) == 120
    assert 1 <= len(set(local.validation.patients.tolist())) == len(local.validation) / 3 <= 20
    assert not set(local.train.patients.tolist()) & set(local.validation.patients.tolist())


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_split_of_the_hospitals_own_is_kept_whatever_the_shares(tmp_path: Path, share: float) -> None:
    write_images(tmp_path, {"files": 6})
    splits = ["train", "val", "train", "test", "val", "train"]
    lines = [f"files/patient-{number}.png,a,{split}" for number, split in enumerate(splits)]
    _table(tmp_path, ["file,label,split", *lines])
    local = load_local(_folder_run(), _hospital(tmp_path, validation_share=share, test_share=share))
    assert (len(local.train), len(local.validation), len(local.test)) == (3, 2, 1)


def test_frames_of_a_patient_stay_together_by_the_number_in_the_dicom_file(tmp_path: Path) -> None:
    for number in range(40):
        pixels = np.full((3, 4, 4), number, dtype=np.uint8)
        write_dicom(tmp_path / "a" / f"{number}.dcm", pixels, PatientID=f"{CANARY}-{number // 2}")
    local = load_local(_folder_run(), _hospital(tmp_path))
    assert len(local.train) + len(local.validation) == 120
    assert len(local.validation) % 6 == 0 < len(local.validation)


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "test"), ("val", "test")])
def test_dicom_files_of_one_patient_in_two_parts_are_refused_without_the_number(
    tmp_path: Path, parts: tuple[str, str]
) -> None:
    write_dicom(tmp_path / "train" / "a" / "other.dcm", np.zeros((2, 2), dtype=np.uint8), PatientID="other")
    for part in parts:
        write_dicom(tmp_path / part / "a" / "scan.dcm", np.zeros((2, 2), dtype=np.uint8))
    simulated = _folder_run(directory=str(tmp_path))
    for config, node in ((_folder_run(), _hospital(tmp_path)), (simulated, _simulated(0))):
        with pytest.raises(DataError, match="by the PatientID of their DICOM files") as caught:
            load_local(config, node)
        assert CANARY not in str(caught.value) and caught.value.public == "images of one patient lie in two parts"


def test_the_column_of_the_table_goes_before_the_number_in_the_dicom_file(tmp_path: Path) -> None:
    for number in range(40):
        write_dicom(tmp_path / f"{number}.dcm", np.zeros((2, 2), dtype=np.uint8))  # all of one PatientID
    lines = [f"{number}.dcm,a,{number}" for number in range(40)]
    local = load_local(_folder_run(), _hospital(_table(tmp_path, ["file,label,patient", *lines])))
    assert len(local.train) + len(local.validation) == 40 and 3 <= len(local.validation) <= 20


def test_images_of_a_single_patient_cannot_be_held_out_and_the_node_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path, {"files": 3})
    lines = [f"files/patient-{number}.png,a,anna" for number in range(3)]
    local = load_local(_folder_run(), _hospital(_table(tmp_path, ["file,label,patient", *lines])))
    assert (len(local.train), len(local.validation)) == (3, 0)
    assert "into the part 'val', so it is empty" in caplog.text and "anna" not in caplog.text


def test_the_hospital_says_how_many_files_may_be_broken(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 3})
    (tmp_path / "a" / "z.png").write_bytes(b"x")
    assert load_local(_folder_run(), _hospital(tmp_path, max_unreadable_share=0.25)).num_unreadable == 1
    with pytest.raises(DataError, match="1 of 4 image files"):
        load_local(_folder_run(), _hospital(tmp_path))


@pytest.mark.parametrize("scheme", ["iid", "dirichlet", "shard"])
def test_in_a_simulation_a_patient_belongs_to_one_node_and_one_side(tmp_path: Path, scheme: str) -> None:
    write_images(tmp_path, {"files": 24})
    lines = [f"files/patient-{number}.png,{'ab'[number % 2]},{number // 2}" for number in range(24)]
    _table(tmp_path, ["file,label,patient", *lines])
    config = run_config({**_folder_run(directory=str(tmp_path)).to_flat(), "partition.scheme": scheme})
    nodes = [load_local(config, _simulated(number)) for number in range(3)]
    sides = [part.patients for node in nodes for part in (node.train, node.validation)]
    patients = [number for side in sides if side is not None for number in set(side.tolist())]
    assert sorted(patients) == list(range(12))
