import json
from pathlib import Path

import pytest

from fl_app.errors import RunFolderError
from fl_app.files import write_json
from fl_app.runs.folder import RunFolder
from fl_app.runs.opening import different_options, open_run
from fl_app.runs.run_json import read_document
from tests.tiny import tiny_run


def open_tiny(output: Path, **overrides: str | int | float) -> RunFolder:
    folder = open_run(tiny_run(output, {key.replace("_", "-"): value for key, value in overrides.items()}), 0xABCD)
    folder.unlock()
    return folder


def set_state(folder: RunFolder, state: str) -> None:
    write_json(folder.status_file, {"state": state})


def test_a_new_run_begins_with_its_options_versions_and_seed(tmp_path: Path) -> None:
    folder = open_tiny(tmp_path, seed=7)
    document = json.loads(folder.options_file.read_text())
    assert document["seed"] == 7 and document["options"]["seed"] == 7
    assert {"python", "torch", "flwr", "diffusers"} <= document["versions"].keys()


def test_a_run_without_a_name_is_called_by_time_recipe_and_id(tmp_path: Path) -> None:
    folder = open_tiny(tmp_path, run_name="", recipe="demo")
    assert folder.path.name.endswith("-demo-abcd") and folder.path.parent == tmp_path


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    open_tiny(tmp_path)
    with pytest.raises(RunFolderError, match=r"holds a run already.*resume = "):
        open_tiny(tmp_path)


def test_a_run_of_other_options_is_not_resumed_and_the_difference_is_named(tmp_path: Path) -> None:
    folder = open_tiny(tmp_path)
    with pytest.raises(RunFolderError, match=r"other options: diffusion.num-rounds \(was 2, is 3\)"):
        open_tiny(tmp_path, resume=str(folder.path), **{"diffusion.num-rounds": 3})


def test_how_long_to_wait_may_change_when_a_run_is_resumed(tmp_path: Path) -> None:
    folder = open_tiny(tmp_path)
    again = open_tiny(tmp_path, resume=str(folder.path), **{"federation.round-deadline-seconds": 7.0})
    assert again.path == folder.path


def test_a_finished_run_is_not_resumed(tmp_path: Path) -> None:
    folder = open_tiny(tmp_path)
    set_state(folder, "completed")
    with pytest.raises(RunFolderError, match="is finished"):
        open_tiny(tmp_path, resume=str(folder.path))


def test_a_folder_without_a_run_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"is no run folder: it holds no run.json"):
        open_tiny(tmp_path, resume=str(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run-name": "x"}'])
def test_a_half_written_run_json_is_refused(text: str, tmp_path: Path) -> None:
    folder = open_tiny(tmp_path)
    folder.options_file.write_text(text)
    with pytest.raises(RunFolderError, match=r"run\.json is damaged"):
        open_tiny(tmp_path, resume=str(folder.path))


def test_auto_takes_the_newest_unfinished_run_of_the_same_options(tmp_path: Path) -> None:
    for name, state in (("a", "failed"), ("b", "running"), ("c", "completed")):
        set_state(open_tiny(tmp_path, run_name=name), state)
    open_tiny(tmp_path, run_name="d", seed=5)
    assert open_tiny(tmp_path, resume="auto").path.name == "b"


def test_a_run_that_is_still_going_on_is_not_resumed(tmp_path: Path) -> None:
    going_on = open_run(tiny_run(tmp_path), 1)
    with pytest.raises(RunFolderError, match="still going on"):
        open_tiny(tmp_path, resume=str(going_on.path))
    assert open_tiny(tmp_path, resume="auto", run_name="second").path.name == "second"
    going_on.unlock()
    assert open_tiny(tmp_path, resume=str(going_on.path)).path == going_on.path


def test_auto_starts_a_new_run_where_nothing_can_be_resumed(tmp_path: Path) -> None:
    assert open_tiny(tmp_path, resume="auto", run_name="first").path.name == "first"


def test_a_run_and_each_resume_note_the_id_that_flower_gave_them(tmp_path: Path) -> None:
    open_run(tiny_run(tmp_path), 2**63 + 1).unlock()
    open_run(tiny_run(tmp_path, {"resume": str(tmp_path / "run")}), 7).unlock()
    folder = open_run(tiny_run(tmp_path, {"resume": "auto"}), 8)
    folder.unlock()
    assert read_document(folder.path).flower_runs == (str(2**63 + 1), "7", "8")


@pytest.mark.parametrize("name", ["sampling.num-steps", "sampling.guidance-scale", "sampling.sampler"])
def test_how_images_are_drawn_cannot_be_changed_in_the_middle_of_a_run(tmp_path: Path, name: str) -> None:
    """The curve, the audit, replay and the judgement depend on it."""
    found = tiny_run(tmp_path).to_flat()
    assert different_options(found, {**found, name: 3}) == [name]
    assert different_options(found, {**found, "federation.min-nodes": 3, "gallery-every": 7}) == []


def test_of_two_starts_under_one_name_the_later_one_leaves_nothing(tmp_path: Path) -> None:
    first = open_run(tiny_run(tmp_path, {"seed": 1}), 1)
    first.options_file.unlink()  # as if both had looked for it before either wrote it
    with pytest.raises(RunFolderError, match="still going on"):
        open_run(tiny_run(tmp_path, {"seed": 2}), 2)
    assert not first.options_file.exists()
    first.unlock()


def test_a_run_that_another_server_finished_meanwhile_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_tiny(tmp_path)
    lock = RunFolder.lock

    def finish_first(self: RunFolder) -> None:
        set_state(folder, "completed")
        lock(self)

    monkeypatch.setattr(RunFolder, "lock", finish_first)
    with pytest.raises(RunFolderError, match="is finished"):
        open_tiny(tmp_path, resume=str(folder.path))
    monkeypatch.undo()
    folder.lock()  # and the folder is free again
    folder.unlock()
