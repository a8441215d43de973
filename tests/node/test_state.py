from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fl_app.node.state import NodeState


def state(value: float) -> dict[str, torch.Tensor]:
    return {"0.exp_avg": torch.full((2,), value), "0.step": torch.tensor(value)}


def test_a_round_finds_the_newest_state_from_before_it(tmp_path: Path) -> None:
    kept = NodeState(tmp_path, keep=3)
    for number in (1, 2, 4):
        kept.save(number, state(number))
    found = kept.load_before(4)
    assert found is not None and float(found["0.step"]) == 2.0
    assert kept.load_before(1) is None


def test_a_round_done_again_forgets_the_states_after_it(tmp_path: Path) -> None:
    kept = NodeState(tmp_path, keep=9)
    for number in (1, 2, 3):
        kept.save(number, state(number))
    kept.save(2, state(20.0))
    found = kept.load_before(9)
    assert found is not None and float(found["0.step"]) == 20.0


def test_states_of_long_ago_are_dropped(tmp_path: Path) -> None:
    kept = NodeState(tmp_path, keep=2)
    for number in range(1, 6):
        kept.save(number, state(number))
    assert len(list(tmp_path.iterdir())) == 2 and kept.load_before(5) is not None and kept.load_before(4) is None


def test_a_damaged_state_means_a_fresh_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = NodeState(tmp_path, keep=2)
    kept.save(1, state(1))
    next(tmp_path.iterdir()).write_bytes(b"x")
    assert kept.load_before(2) is None
    assert "starting afresh" in caplog.text


def test_a_flipped_bit_anywhere_in_a_state_means_a_fresh_start(tmp_path: Path) -> None:
    kept = NodeState(tmp_path, keep=2)
    kept.save(1, state(1))
    file = next(tmp_path.iterdir())
    whole = file.read_bytes()
    for position in range(0, len(whole), 3):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        found = kept.load_before(2)
        assert found is None or all(torch.equal(found[key], value) for key, value in state(1).items())


def test_a_state_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    save_file(state(1), tmp_path / "state-0001.safetensors")
    assert NodeState(tmp_path, keep=2).load_before(2) is not None


def test_a_state_that_cannot_be_written_is_a_warning_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    NodeState(tmp_path / "file" / "state", keep=2).save(1, state(1))
    assert "cannot be kept" in caplog.text


def test_a_disk_that_is_full_is_left_without_half_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(state: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fl_app.node.state.save_file", fill)
    NodeState(tmp_path, keep=2).save(1, state(1))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_half_written_is_deleted(tmp_path: Path) -> None:
    for name in (".partial", ".state-0007.safetensors.partial.safetensors"):  # the first: of an earlier version
        (tmp_path / name).write_bytes(b"half")
    NodeState(tmp_path, keep=2).save(9, state(1))
    assert [path.name for path in tmp_path.iterdir()] == ["state-0009.safetensors"]
