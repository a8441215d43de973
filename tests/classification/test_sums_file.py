"""The file that a hospital hands over."""

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from fl_app.classification.joining import Handover, read_handover, write_handover
from fl_app.classification.moments import blank_moments
from fl_app.errors import DataError


def make_handover() -> Handover:
    moments = {name: value + 1.5 for name, value in blank_moments(3, 4).items()}
    return Handover("klinik-9", ("gutartig", "bösartig", "a,b"), "0" * 64, moments)


def test_a_handover_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_handover(make_handover(), tmp_path / "sums")
    found = read_handover(tmp_path / "sums")
    assert (found.site, found.class_names, found.model) == ("klinik-9", ("gutartig", "bösartig", "a,b"), "0" * 64)
    assert found.moments.keys() == make_handover().moments.keys()
    assert all(np.array_equal(found.moments[key], value) for key, value in make_handover().moments.items())


def test_the_file_holds_the_five_sums_and_no_more(tmp_path: Path) -> None:
    write_handover(make_handover(), tmp_path / "sums")
    with safe_open(tmp_path / "sums", framework="numpy") as file:
        shapes = {name: file.get_tensor(name).shape for name in file.keys()}  # noqa: SIM118, it is no mapping
        assert shapes == {"count": (3,), "sum": (3, 4), "outer": (4, 4), "withheld": (3,), "picture": (4, 4)}
        assert set(file.metadata()) == {"kind", "site", "classes", "model"}


@pytest.mark.parametrize("content", [b"", b"no sums", b"\xff" * 100])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sums").write_bytes(content)
    with pytest.raises(DataError, match=r"sums is no whole file of sums .*fl-app prototypes measure"):
        read_handover(tmp_path / "sums")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    write_handover(make_handover(), tmp_path / "sums")
    (tmp_path / "sums").write_bytes((tmp_path / "sums").read_bytes()[:-8])
    with pytest.raises(DataError, match="no whole file"):
        read_handover(tmp_path / "sums")


@pytest.mark.parametrize("metadata", [None, {"kind": "other"}, {"kind": "fl-app sums of embeddings 1"}])
def test_other_safetensors_files_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"count": np.zeros(3)}, tmp_path / "sums", metadata)
    with pytest.raises(DataError, match="no whole file of sums"):
        read_handover(tmp_path / "sums")
