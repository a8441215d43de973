"""`fl-app sent`: what left, for which run, and whether the log is as it was written."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.cli.sent import make_table
from fl_app.errors import OptionError
from fl_app.node.sent import LOG, Sent, append, verify

TRAIN = Sent(
    time="2026-11-26T13:00:00.000+00:00",
    site="north",
    run="study-1",
    flower_run="7",
    task="classification",
    message="train",
    round=3,
    is_error=False,
    records={"weights": {"a": "F32 [2]", "b": "F32 [3]"}, "node": {"site": "text of 5 bytes"}},
    bytes=2_000_025,
    sha256="ab",
)
DESCRIBED = {"run": "", "task": "", "message": "query.describe", "round": None, "bytes": 9}


def write(folder: Path) -> None:
    """Write the log of two runs: descriptions name no run, and one reply is an error."""
    for more in (
        DESCRIBED,
        {},
        DESCRIBED | {"flower_run": "8"},
        {"run": "study-2", "flower_run": "8", "is_error": True},
    ):
        append(folder, Sent(**{**vars(TRAIN), **more}))


def show(folder: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["sent", "--state-dir", str(folder), *arguments])


def test_the_table_says_what_left_when_and_for_which_run(tmp_path: Path) -> None:
    write(tmp_path)
    result = show(tmp_path)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["line", "time", "(UTC)", "run", "task", "answers", "round", "what", "bytes"]
    assert " ".join(lines[2]) == "2 2026-11-26 13:00:00 study-1 classification train 3 weights 2, node 1 2,000,025"
    assert lines[4][-4:] == ["an", "error's", "text", "2,000,025"]
    assert result.stdout.splitlines()[5:] == [
        "4 replies, 1 of them errors: 4.0 MB.",
        f"{tmp_path / LOG}: 4 lines, none changed, removed or moved.",
        f"The last line, 4, has the SHA-256 {verify(tmp_path).lines[-1].hash}",
        "Note it elsewhere: --noted then shows whether the log up to that line is still the same.",
    ]


@pytest.mark.parametrize(("run", "numbers"), [("study-1", [1, 2]), ("8", [3, 4]), ("study-2", [3, 4]), ("other", [])])
def test_a_run_is_shown_with_the_messages_that_name_none(tmp_path: Path, run: str, numbers: list[int]) -> None:
    write(tmp_path)
    found = json.loads(show(tmp_path, "--run", run, "--json").stdout)
    assert [one["number"] for one in found["replies"]] == numbers
    assert found["lines"] == 4 and found["verified"] is True and len(found["last-hash"]) == 64
    missing = f"No reply to a run {run} is in the log; it has study-1, study-2."
    assert (missing in show(tmp_path, "--run", run).stdout) is (not numbers)


def test_a_changed_line_is_named_whichever_run_is_shown_and_the_status_is_1(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / LOG).write_bytes((tmp_path / LOG).read_bytes().replace(b"2000025", b"2000024", 1))
    for more in ((), ("--run", "study-2")):
        result = show(tmp_path, *more)
        assert result.exit_code == 1
        assert "Line 2 was changed" in result.stderr and "none changed" not in result.stdout
    found = show(tmp_path, "--json")
    assert found.exit_code == 1 and json.loads(found.stdout)["verified"] is False
    assert json.loads(found.stdout)["problems"] == ["Line 2 was changed: its hash is another."]


def test_a_noted_hash_shows_that_lines_were_removed_from_the_end(tmp_path: Path) -> None:
    write(tmp_path)
    noted = verify(tmp_path).lines[-1].hash
    assert show(tmp_path, "--noted", noted).exit_code == show(tmp_path, "--noted", noted[:8].upper()).exit_code == 0
    (tmp_path / LOG).write_bytes(b"".join((tmp_path / LOG).read_bytes().splitlines(keepends=True)[:3]))
    assert show(tmp_path).exit_code == 0
    result = show(tmp_path, "--noted", noted)
    assert result.exit_code == 1 and "lines were removed, or the log was written anew" in result.stderr
    (tmp_path / LOG).unlink()
    assert show(tmp_path, "--noted", noted).exit_code == 1


def test_a_node_without_a_log_says_what_that_can_mean(tmp_path: Path) -> None:
    result = show(tmp_path)
    assert (
        result.exit_code == 0
        and "there is no log. Nothing has left this node, or the file was removed." in result.stdout
    )


def test_a_missing_log_is_told_from_an_empty_one(tmp_path: Path) -> None:
    assert json.loads(show(tmp_path, "--json").stdout)["exists"] is False
    (tmp_path / LOG).touch()
    assert json.loads(show(tmp_path, "--json").stdout)["exists"] is True
    write(tmp_path)
    assert json.loads(show(tmp_path, "--json").stdout)["exists"] is True


def test_the_folder_can_be_named_by_the_options_of_the_node(tmp_path: Path) -> None:
    write(tmp_path)
    node = f'data-path="/data" site="north" state-dir="{tmp_path}"'
    result = CliRunner().invoke(app, ["sent", "--node-config", node])
    assert result.exit_code == 0 and "4 lines, none changed" in result.stdout
    assert isinstance(show(tmp_path, "--node-config", node).exception, OptionError)


@pytest.mark.parametrize(
    "arguments", [("--state-dir", "/no/such/folder"), ("--noted", "abc"), ("--node-config", "x=1")]
)
def test_wrong_words_are_refused(arguments: tuple[str, ...]) -> None:
    assert isinstance(CliRunner().invoke(app, ["sent", *arguments]).exception, OptionError)


def test_what_a_changed_log_holds_cannot_command_the_terminal(tmp_path: Path) -> None:
    strange = dict.fromkeys(("time", "site", "run", "task", "message"), "\x1b[2Jx")
    append(tmp_path, Sent(**{**vars(TRAIN), **strange, "records": {"\x1b[2Jx": {}}}))
    append(tmp_path, TRAIN)
    screen = io.StringIO()
    Console(file=screen, width=200, color_system=None).print(make_table(verify(tmp_path).lines))
    assert "\x1b" not in screen.getvalue() and "site" in screen.getvalue()
