"""SHA256SUMS: what it finds, and that other programs read it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_app.errors import RunFolderError
from fl_app.files import check_export, check_manifest, write_manifest

FILES = {"a.json": b'{"x": 1}', "unet/b.bin": bytes(range(200)), "empty": b""}


def make(folder: Path) -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_manifest(folder)
    return folder


def test_a_folder_as_it_was_written_passes_and_further_files_do_not_count(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert check_manifest(tmp_path) == FILES.keys()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_sha256sum_reads_it(tmp_path: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=make(tmp_path), check=True)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["a.json", "unet/b.bin", "SHA256SUMS"]), st.integers(0, 10**6))
def test_every_flipped_bit_is_found(tmp_path: Path, name: str, position: int) -> None:
    file = make(tmp_path) / name
    content = bytearray(file.read_bytes())
    content[position // 8 % len(content)] ^= 1 << position % 8
    file.write_bytes(content)
    with pytest.raises(RunFolderError, match="is damaged: "):
        check_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "\n", "nothing of the kind\n"])
def test_a_manifest_that_names_nothing_is_damaged(tmp_path: Path, text: str) -> None:
    (make(tmp_path) / "SHA256SUMS").write_text(text)
    with pytest.raises(RunFolderError, match="SHA256SUMS is not as it was written"):
        check_manifest(tmp_path)


def test_an_export_of_an_earlier_version_passes_without_one(tmp_path: Path) -> None:
    (make(tmp_path) / "SHA256SUMS").unlink()
    check_export(tmp_path)
    with pytest.raises(RunFolderError, match="SHA256SUMS is missing"):
        check_manifest(tmp_path)
