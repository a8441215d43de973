"""What doctor says of memory, disk and device."""

from pathlib import Path

import psutil
import pytest
import torch

from fl_app.doctor import machine
from fl_app.doctor.machine import available_memory, check_device, check_disk, check_memory

_GIB = 2**30


@pytest.mark.parametrize(("free", "verdict"), [(9, "ready"), (4, "warning"), (2, "not ready")])
def test_memory_must_hold_the_images_next_to_the_programs(
    monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: free * _GIB)
    assert check_memory(_GIB).verdict == verdict  # 2 GiB for the programs, 3 for the images


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert available_memory(tmp_path) == 600000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > 600000


def test_a_state_folder_that_does_not_exist_yet_is_fine(tmp_path: Path) -> None:
    finding = check_disk(tmp_path / "not" / "yet", 1)
    assert finding.verdict == "ready"
    assert not (tmp_path / "not").exists()
    assert str(tmp_path) not in finding.text


def test_a_full_disk_is_not_ready(tmp_path: Path) -> None:
    free = psutil.disk_usage(str(tmp_path)).free
    assert check_disk(tmp_path, 2 * free).verdict == "not ready"
    assert check_disk(tmp_path, free - _GIB).verdict == "warning"


def test_a_folder_that_cannot_be_written_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    finding = check_disk(tmp_path, 1)
    assert finding.verdict == "not ready"
    assert "Permission denied" in finding.text


def test_a_gpu_that_is_wanted_and_missing_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_device("cuda").verdict == "not ready"
    assert check_device("auto").verdict == "warning"
    assert check_device("cpu").verdict == "ready"


def test_a_gpu_is_named_and_one_that_is_half_taken_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (20 * _GIB, 24 * _GIB))
    assert check_device("auto").verdict == "ready"
    assert "A GPU, 20.0 of 24.0 GiB free" in check_device("auto").text
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2 * _GIB, 24 * _GIB))
    assert check_device("auto").verdict == "warning"
