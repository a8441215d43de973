"""Folders of real sites in a simulation: a node each, under its own name, with the bits of its own deployment."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.what_leaves import write_folders
from fl_app.errors import DataError, FlAppError, OptionError
from fl_app.node.images import as_simulated, load_local, load_pooled, site_folders
from fl_app.node.state import state_folder
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder
from fl_app.simulation.choices import check_before_start
from tests.federation import run_federation
from tests.options import NO_MINIMUMS, write_simulated_key
from tests.tiny import tiny_run

CLASSES = ",".join(map(str, range(10)))


def options(directory: Path, output: Path, **more: Any) -> RunConfig:
    given: dict[str, OptionValue] = {
        "data.source": "folder",
        "data.directory": str(directory),
        "data.class-names": CLASSES,
        "data.num-channels": 1,
        "data.image-size": 8,
        "data.limit": 0,
        "partition.scheme": "sites",
    }
    return tiny_run(output, given | {key.replace("_", "-"): value for key, value in more.items()})


def simulated(number: int, num_nodes: int = 2) -> NodeConfig:
    return NodeConfig.from_flat({"partition-id": number, "num-partitions": num_nodes})


def hospital(root: Path, site: str, state: Path, config: RunConfig) -> dict[str, OptionValue]:
    """Return the options of the hospital for which a simulated node stands."""
    return {
        **NO_MINIMUMS,
        "data-path": str(root / site),
        "site": site,
        "state-dir": str(state),
        "validation-share": config.data.validation_share,
        "test-share": config.data.test_share,
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_folders(tmp_path / "sites")
    return tmp_path / "sites"


def test_each_node_is_the_hospital_of_its_folder_image_by_image(root: Path, tmp_path: Path) -> None:
    config = options(root, tmp_path / "runs")
    for number, site in enumerate(("north", "south")):
        here = load_local(config, as_simulated(config, simulated(number)))
        state = write_simulated_key(tmp_path / "state", site, config.seed)
        there = load_local(config, NodeConfig.from_flat(hospital(root, site, state, config)))
        assert here.site == there.site == site
        for part in ("train", "validation", "test"):
            ours, theirs = getattr(here, part), getattr(there, part)
            assert len(ours) > 0 and ours.images.equal(theirs.images) and ours.labels.equal(theirs.labels)


def test_the_simulation_and_the_hospitals_end_with_the_same_bits(root: Path, tmp_path: Path) -> None:
    config = options(root, tmp_path / "simulated", tasks="diffusion,classification")
    run_federation(config, 2)
    nodes = {}
    for number, site in enumerate(("north", "south")):
        state = write_simulated_key(tmp_path / "state", site, config.seed)
        nodes[number] = hospital(root, site, state, config)
    elsewhere = options(tmp_path, tmp_path / "deployed", tasks="diffusion,classification")
    run_federation(elsewhere, 2, node_options=nodes)
    for task in ("diffusion", "classification"):
        ours, theirs = (weights(tmp_path / name, task) for name in ("simulated", "deployed"))
        assert ours.keys() == theirs.keys() and len(ours) > 5
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def weights(output: Path, task: str) -> dict[str, np.ndarray[Any, Any]]:
    (folder,) = output.iterdir()
    checkpoint = RunFolder(folder).last_checkpoint(task)
    assert checkpoint is not None
    return checkpoint.models["raw"]


def test_what_a_node_keeps_lies_in_the_run_folder_as_in_every_simulation(root: Path, tmp_path: Path) -> None:
    config = options(root, tmp_path / "runs")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    found = state_folder(as_simulated(config, simulated(1)), str(tmp_path / "run"), "run", "diffusion")
    assert found == tmp_path / "run" / "nodes" / "south" / "diffusion"


def test_all_images_together_are_those_of_the_sites(root: Path, tmp_path: Path) -> None:
    config = options(root, tmp_path / "runs")
    parts = [load_local(config, as_simulated(config, simulated(number))) for number in range(2)]
    pooled = load_pooled(config, as_simulated(config, simulated(0)))
    assert len(pooled.train) == sum(len(part.train) for part in parts)
    assert len(pooled.validation) == sum(len(part.validation) for part in parts)
    assert len(pooled.test) == sum(len(part.test) for part in parts)


def test_what_would_fail_at_a_node_fails_before_the_start(root: Path, tmp_path: Path) -> None:
    config = options(root, tmp_path / "runs")
    check_before_start(config, 2, tmp_path / "runs", None)
    with pytest.raises(OptionError, match=r"there are 2 \(north, south\), and 5 nodes\. Simulate 2 nodes"):
        check_before_start(config, 5, tmp_path / "runs", None)
    (root / "south" / "what").mkdir()
    with pytest.raises(FlAppError, match="is not a class of this run"):
        check_before_start(config, 2, tmp_path / "runs", None)


def test_a_folder_without_sites_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no folder; scheme 'sites' takes one for each site"):
        site_folders(options(tmp_path / "empty", tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        site_folders(options(tmp_path / "nowhere", tmp_path))


def test_sites_are_folders(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"partition\.scheme sites needs data\.source folder, got digits"):
        tiny_run(tmp_path, {"partition.scheme": "sites"})


def test_a_hospital_that_calls_itself_simulated_is_refused() -> None:
    given = {"data-path": "/data", "site": "north", "partition-id": 0, "num-partitions": 2}
    with pytest.raises(OptionError, match="partition-id is for simulations"):
        NodeConfig.from_flat(given)
