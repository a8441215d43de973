import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from fl_app.errors import RunFolderError
from fl_app.files import replacing, write_json, write_manifest
from fl_app.runs import folder as folder_module
from fl_app.runs.documents import RoundLine, RunStatus
from fl_app.runs.folder import Arrays, Checkpoint, RunFolder, read_checkpoint, read_status, write_checkpoint


def checkpoint(number: int, value: float = 1.0) -> Checkpoint:
    models: dict[str, Arrays] = {
        "raw": {"w": np.full((2, 2), value, np.float32)},
        "ema": {"w": np.zeros((2, 2), np.float32)},
    }
    return Checkpoint(number, models, {"m_t/w": np.ones(3), "momentum_vector/0": np.array(2.0)}, {"best": None})


def line(number: int) -> RoundLine:
    return RoundLine(task="diffusion", round=number, outcome="ok")


def disk_full(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "round-0003", checkpoint(3))
    found = read_checkpoint(tmp_path / "round-0003")
    assert found.round_number == 3 and found.values == {"best": None}
    assert np.array_equal(found.models["raw"]["w"], np.ones((2, 2))) and found.models["raw"]["w"].dtype == np.float32
    assert found.state["momentum_vector/0"].shape == ()


def test_a_full_disk_leaves_the_checkpoint_before_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.save_checkpoint("diffusion", checkpoint(1))
    written: list[object] = []

    def full_at_second_file(arrays: object, path: Path) -> None:
        if written:
            disk_full()
        written.append(path)
        path.write_bytes(b"half")

    monkeypatch.setattr(folder_module, "save_file", full_at_second_file)
    with pytest.raises(RunFolderError, match=r"round-0002 could not be written.*No space left.*make room and resume"):
        folder.save_checkpoint("diffusion", checkpoint(2))
    found = folder.last_checkpoint("diffusion")
    assert found is not None and found.round_number == 1
    assert [path.name for path in (tmp_path / "diffusion/checkpoints").iterdir()] == ["round-0001"]


def test_the_best_model_survives_a_full_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.save_best("diffusion", checkpoint(1, 1.0))
    monkeypatch.setattr(folder_module, "save_file", disk_full)
    with pytest.raises(RunFolderError):
        folder.save_best("diffusion", checkpoint(2, 2.0))
    best = folder.best_checkpoint("diffusion")
    assert best is not None and best.models["raw"]["w"][0, 0] == 1.0


def test_only_the_newest_two_checkpoints_are_kept_and_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in (9, 10, 9998, 10000):
        folder.save_checkpoint("diffusion", checkpoint(number))
    assert sorted(path.name for path in (tmp_path / "diffusion/checkpoints").iterdir()) == ["round-10000", "round-9998"]
    found = folder.last_checkpoint("diffusion")
    assert found is not None and found.round_number == 10000


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_checkpoint("diffusion", checkpoint(1))
    partial = tmp_path / "diffusion/checkpoints/.round-0002.partial"
    partial.mkdir()
    (partial / "raw.safetensors").write_bytes(b"half")
    found = folder.last_checkpoint("diffusion")
    assert found is not None and found.round_number == 1
    folder.save_checkpoint("diffusion", checkpoint(2))
    assert not partial.exists()


@pytest.mark.parametrize("victim", ["raw.safetensors", "state.json", "server-optimizer.safetensors", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_checkpoint_is_refused_by_name(victim: str, damage: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "round-0001", checkpoint(1))
    file = tmp_path / "round-0001" / victim
    if damage == "missing":
        file.unlink()
    else:
        flipped = bytearray(file.read_bytes())
        flipped[-2] ^= 1
        file.write_bytes(flipped[:20] if damage == "cut" else flipped)
    with pytest.raises(RunFolderError, match="round-0001 is damaged: "):
        read_checkpoint(tmp_path / "round-0001")


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"round": 1, "models": {}, "values": {}}'])
def test_a_state_that_was_written_by_somebody_else_is_damaged_without_a_traceback(text: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "round-0001", checkpoint(1))
    (tmp_path / "round-0001" / "state.json").write_text(text)
    (tmp_path / "round-0001" / "server-optimizer.safetensors").unlink()
    write_manifest(tmp_path / "round-0001")
    with pytest.raises(RunFolderError, match="round-0001 is damaged"):
        read_checkpoint(tmp_path / "round-0001")


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_the_checkpoint_before_a_damaged_one_is_offered(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in (3, 4):
        folder.save_checkpoint("diffusion", checkpoint(number))
    newest = tmp_path / "diffusion/checkpoints/round-0004"
    damage(newest / "raw.safetensors")
    advice = (
        r"raw\.safetensors is not as it was written\. To go on after round 3, delete the folder round-0004 and resume"
    )
    with pytest.raises(RunFolderError, match=advice):
        folder.last_checkpoint("diffusion")
    shutil.rmtree(newest)
    found = folder.last_checkpoint("diffusion")
    assert found is not None and found.round_number == 3
    damage(tmp_path / "diffusion/checkpoints/round-0003/ema.safetensors")
    with pytest.raises(RunFolderError, match="No earlier checkpoint is whole: start a new run"):
        folder.last_checkpoint("diffusion")


def test_a_damaged_best_model_is_told_and_can_be_done_without(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_best("diffusion", checkpoint(1))
    damage(tmp_path / "diffusion/checkpoints/best/raw.safetensors")
    with pytest.raises(RunFolderError, match="To resume without it, delete that folder"):
        folder.best_checkpoint("diffusion")


def test_damaged_lines_of_metrics_are_left_out_with_a_warning_and_kept_beside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder(tmp_path)
    for number in (1, 2, 3):
        folder.append_metrics(line(number))
    text = folder.metrics_file.read_text()
    folder.metrics_file.write_bytes(text.replace('"round": 2', '"round": \xff').encode("latin-1"))
    before = folder.metrics_file.read_bytes()
    assert [one.round for one in folder.cut_metrics("diffusion", 3)] == [1, 3]
    assert "damaged lines are left out: 2" in caplog.text
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "5"])
def test_a_damaged_status_is_told_and_counts_as_none(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "status.json").write_text(text)
    assert read_status(RunFolder(tmp_path)) == RunStatus()
    assert "status.json is damaged" in caplog.text


def test_a_line_of_metrics_that_a_crash_cut_off_does_not_count(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append_metrics(line(1))
    with folder.metrics_file.open("a") as file:
        file.write('{"task": "diff')
    assert [one.round for one in folder.read_metrics()] == [1]


def test_rounds_that_will_be_done_again_lose_their_lines(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in (1, 2, 3):
        folder.append_metrics(line(number))
    assert [one.round for one in folder.cut_metrics("diffusion", 2)] == [1, 2]
    assert [one.round for one in folder.read_metrics()] == [1, 2]


def test_a_number_that_is_not_finite_never_reaches_a_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    target = tmp_path / "picture.png"
    target.write_text("old")

    def write_half() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            disk_full()

    with pytest.raises(RunFolderError, match="could not be written"):
        write_half()
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [SafetensorError("disk full"), ValueError("not finite"), KeyboardInterrupt()])
def test_whatever_ends_a_writer_no_half_file_stays(error: BaseException, tmp_path: Path) -> None:
    def write_half() -> None:
        with replacing(tmp_path / "state.safetensors") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(RunFolderError if isinstance(error, SafetensorError) else type(error)):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_file_for_its_user_alone_never_stands_there_open_to_others(tmp_path: Path) -> None:
    target = tmp_path / "images"
    target.write_text("old")
    target.chmod(0o644)
    with replacing(target, 0o600) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new" and target.stat().st_mode & 0o777 == 0o600
