"""Where files come from: the given folder first, then the cache, then a download; never a damaged file."""

import hashlib
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import pytest

from fl_app.data.files import DIRECTORY_VARIABLE, KnownFile, cache_directory, read_known_files
from fl_app.errors import DataError
from fl_app.options.images import DataOptions
from tests.options import run_config

_CONTENT = b"images"
_FILE = KnownFile(("set/raw/images.gz", "images.gz"), hashlib.md5(_CONTENT).hexdigest())


def _options(directory: Path | str = "") -> DataOptions:
    return run_config({"data.directory": str(directory)}).data


def _never(folder: Path) -> None:
    raise AssertionError("a download started")


def _write(folder: Path, place: str = _FILE.places[0], content: bytes = _CONTENT) -> None:
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_bytes(content)


@pytest.mark.parametrize("place", _FILE.places)
def test_a_file_is_read_from_either_of_its_places_in_the_given_folder(tmp_path: Path, place: str) -> None:
    _write(tmp_path, place)
    assert read_known_files(_options(tmp_path), [_FILE], _never) == [_CONTENT]


def test_the_environment_names_the_folder_where_the_option_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path)
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    assert read_known_files(_options(), [_FILE], _never) == [_CONTENT]


def test_the_option_counts_more_than_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path)
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "elsewhere"))
    assert read_known_files(_options(tmp_path), [_FILE], _never) == [_CONTENT]


def test_a_given_folder_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_known_files(_options(tmp_path), [_FILE], _never)
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_files_are_downloaded_once_into_the_cache() -> None:
    assert read_known_files(_options(), [_FILE], _write) == [_CONTENT]
    assert read_known_files(_options(), [_FILE], _never) == [_CONTENT]
    assert [path.name for path in cache_directory().iterdir()] == ["set"]


def test_a_missing_file_is_named_here_and_not_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no file set/raw/images.gz or images.gz") as caught:
        read_known_files(_options(tmp_path), [_FILE], _never)
    assert caught.value.public == "a file of the data set is missing"


def test_a_missing_folder_is_named_here_and_not_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist; expected there: the file set") as caught:
        read_known_files(_options(tmp_path / "nowhere"), [_FILE], _never)
    assert caught.value.public == "a file of the data set is missing"


@pytest.mark.parametrize("content", [b"", _CONTENT[:-1], b"others"])
def test_a_damaged_file_is_named_here_and_not_elsewhere(tmp_path: Path, content: bytes) -> None:
    _write(tmp_path, content=content)
    with pytest.raises(DataError, match=r"images.gz is damaged or not the published file: its MD5 is") as caught:
        read_known_files(_options(tmp_path), [_FILE], _never)
    assert caught.value.public == "a file of the data set is damaged"


def test_a_damaged_download_does_not_pass() -> None:
    def download(folder: Path) -> None:
        _write(folder, content=b"half")

    with pytest.raises(DataError, match="damaged"):
        read_known_files(_options(), [_FILE], download)


@pytest.mark.parametrize("error", [URLError("no route"), OSError("no route"), RuntimeError("no\n route")])
def test_no_network_is_one_error_that_says_what_to_do(error: Exception) -> None:
    with pytest.raises(DataError) as caught:
        read_known_files(_options(), [_FILE], _raising(error))
    assert "Expected: set/raw/images.gz" in str(caught.value)
    assert "no route" in str(caught.value)
    assert "'data.directory' or in $FL_APP_DATA" in str(caught.value)
    assert caught.value.public == "the data set is not there and could not be downloaded"


def test_a_download_that_breaks_off_leaves_nothing_behind() -> None:
    with pytest.raises(DataError, match="IncompleteRead"):
        read_known_files(_options(), [_FILE], _raising(IncompleteRead(b"half")))
    assert list(cache_directory().iterdir()) == []


def test_a_cache_that_cannot_be_made_is_an_error_too(elsewhere: Path) -> None:
    (elsewhere / "cache").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="the download failed"):
        read_known_files(_options(), [_FILE], _write)


def _raising(error: Exception) -> Callable[[Path], None]:
    def download(folder: Path) -> None:
        _write(folder, content=b"half")
        raise error

    return download
