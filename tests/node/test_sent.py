"""The log of what left a hospital: what a line says, what a chain of hashes shows, and that nothing leaves unnoted."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fl_app.messages.contents import contents_of
from fl_app.messages.records import CONFIG, DESCRIBE
from fl_app.node.sent import FIRST, LOG, Sent, append, log_folder, verify
from tests.federation import LocalGrid
from tests.tiny import tiny_run

ONE = Sent("2026-11-26T13:00:00.000+00:00", "north", "run", "7", "", DESCRIBE, None, False, {"node": {}}, 9, "ab")


def write(folder: Path, count: int = 6) -> list[bytes]:
    """Write lines, and return them with their line ends."""
    for _ in range(count):
        append(folder, ONE)
    return (folder / LOG).read_bytes().splitlines(keepends=True)


def rewrite(folder: Path, lines: list[bytes]) -> list[str]:
    """Replace the log, and return what is found to be wrong with it."""
    (folder / LOG).write_bytes(b"".join(lines))
    return verify(folder).problems


def test_each_line_holds_its_number_its_hash_and_the_hash_of_the_line_before(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in write(tmp_path, 3)]
    assert [line["number"] for line in lines] == [1, 2, 3]
    assert [line["before"] for line in lines] == [FIRST, lines[0]["hash"], lines[1]["hash"]]
    found = verify(tmp_path)
    assert (found.problems, found.notes) == ([], [])
    assert [line.sent for line in found.lines] == [ONE] * 3


def test_the_log_and_its_folder_are_closed_to_other_users(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    write(folder)
    (folder / LOG).chmod(0o644)
    write(folder)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / LOG)] == [0o700, 0o600]


@pytest.mark.parametrize("number", range(1, 7))
def test_a_changed_line_is_named(tmp_path: Path, number: int) -> None:
    lines = write(tmp_path)
    lines[number - 1] = lines[number - 1].replace(b'"bytes": 9', b'"bytes": 8')
    assert rewrite(tmp_path, lines) == [f"Line {number} was changed: its hash is another."]


@pytest.mark.parametrize("number", range(1, 6))
def test_a_removed_line_is_named(tmp_path: Path, number: int) -> None:
    lines = write(tmp_path)
    del lines[number - 1]
    assert rewrite(tmp_path, lines) == [f"Line {number} is missing."]


def test_removed_lines_are_named(tmp_path: Path) -> None:
    lines = write(tmp_path)
    assert rewrite(tmp_path, [lines[0], *lines[4:]]) == ["Lines 2 to 4 are missing."]


def test_a_moved_line_is_named(tmp_path: Path) -> None:
    a, b, c, d, e, f = write(tmp_path)
    assert rewrite(tmp_path, [a, b, d, c, e, f]) == ["Line 3 was moved: it stands behind line 4."]
    assert rewrite(tmp_path, [a, b, c, c, d, e, f]) == ["Line 3 was moved: it stands behind line 3."]


def test_a_line_with_a_new_hash_is_named_by_the_one_after_it(tmp_path: Path) -> None:
    lines = write(tmp_path)
    append(tmp_path / "other", ONE)
    append(tmp_path / "other", Sent(**{**vars(ONE), "bytes": 8}))
    lines[1] = (tmp_path / "other" / LOG).read_bytes().splitlines(keepends=True)[1]
    assert rewrite(tmp_path, lines) == ["Line 2 was replaced: line 3 was written after another one."]


@pytest.mark.parametrize(
    "junk", [b"\n", b"junk\n", b"{}\n", b"[" * 100_000 + b"\n", b"\xff\n", b"{" + b"9" * 200 + b"}\n"]
)
@pytest.mark.parametrize("number", [1, 3, 6])
def test_a_line_that_is_none_any_more_is_named_and_the_next_reply_does_not_hide_it(
    tmp_path: Path, number: int, junk: bytes
) -> None:
    lines = write(tmp_path)
    lines[number - 1] = junk
    named = [f"Line {number} is not as written: no reply can be read there."]
    assert rewrite(tmp_path, lines) == named
    append(tmp_path, ONE)
    assert verify(tmp_path).problems == named and verify(tmp_path).lines[-1].number == 7


def test_the_end_of_a_line_that_was_changed_before_the_next_reply_stays_changed(tmp_path: Path) -> None:
    lines = write(tmp_path)
    lines[5] = lines[5].replace(b'"bytes": 9', b'"bytes": 8')
    rewrite(tmp_path, lines)
    append(tmp_path, ONE)
    assert verify(tmp_path).problems == ["Line 6 was changed: its hash is another."]


def test_only_a_noted_hash_shows_that_the_last_lines_were_removed(tmp_path: Path) -> None:
    lines = write(tmp_path)
    last = verify(tmp_path).lines[-1].hash
    assert rewrite(tmp_path, lines[:4]) == []
    assert last not in {line.hash for line in verify(tmp_path).lines}


@pytest.mark.parametrize("kept", [1, 20, -2])
def test_a_line_cut_off_by_the_death_of_its_process_is_noted_and_the_chain_goes_on(tmp_path: Path, kept: int) -> None:
    lines = write(tmp_path)
    cut = lines[5][:kept]
    assert rewrite(tmp_path, [*lines[:5], cut]) == []
    noted = ["Line 6 is cut off: the process that wrote it probably died, and then its reply did not leave."]
    assert verify(tmp_path).notes == noted
    append(tmp_path, ONE)
    found = verify(tmp_path)
    assert (found.problems, found.notes) == ([], noted)
    assert [line.number for line in found.lines] == [1, 2, 3, 4, 5, 7]
    assert found.lines[-1].before == found.lines[-2].hash
    end = (tmp_path / LOG).read_bytes().splitlines(keepends=True)
    assert end[5] == cut + b"\n"  # it stays, and nobody can change it now
    assert rewrite(tmp_path, [*end[:5], b"x" + end[5], end[6]]) == [
        "Line 6 is not as written: no reply can be read there."
    ]


def test_a_line_that_lacks_only_its_end_is_a_line(tmp_path: Path) -> None:
    lines = write(tmp_path)
    assert rewrite(tmp_path, [*lines[:5], lines[5][:-1]]) == []
    append(tmp_path, ONE)
    found = verify(tmp_path)
    assert (found.problems, found.notes) == ([], []) and len(found.lines) == 7


def test_two_processes_that_die_one_after_the_other_cut_off_two_lines(tmp_path: Path) -> None:
    lines = write(tmp_path)
    rewrite(tmp_path, [*lines[:4], lines[4][:30]])
    append(tmp_path, ONE)
    content = (tmp_path / LOG).read_bytes()
    (tmp_path / LOG).write_bytes(content[: -len(ONE.sha256) - 90])
    append(tmp_path, ONE)
    found = verify(tmp_path)
    assert found.problems == [] and [line.number for line in found.lines] == [1, 2, 3, 4, 7]
    assert found.notes == [
        "Lines 5 to 6 are cut off: the process that wrote it probably died, and then its reply did not leave."
    ]


def test_a_process_killed_while_it_writes_loses_no_earlier_line(tmp_path: Path) -> None:
    code = (
        "import os, sys, fl_app.node.sent as sent; from pathlib import Path; from tests.node.test_sent import ONE\n"
        "real = os.write\n"
        "def half(file, text): real(file, text[:50]); os.kill(os.getpid(), 9)\n"
        "sent.append(Path(sys.argv[1]), ONE); sent.os.write = half; sent.append(Path(sys.argv[1]), ONE)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert append(tmp_path, ONE)[0] == 3
    found = verify(tmp_path)
    assert [line.number for line in found.lines] == [1, 3] and found.problems == [] and "Line 2" in found.notes[0]


def test_many_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as writers:
        numbers = sorted(number for number, _ in writers.map(lambda _: append(tmp_path, ONE), range(40)))
    assert numbers == list(range(1, 41))
    assert verify(tmp_path).problems == [] and len(verify(tmp_path).lines) == 40


def test_a_file_to_which_the_system_only_lets_append_is_enough(tmp_path: Path) -> None:
    write(tmp_path, 1)
    if subprocess.run(["chattr", "+a", str(tmp_path / LOG)], capture_output=True, check=False).returncode:
        pytest.skip("chattr +a takes root, and a file system that knows it")
    try:
        assert append(tmp_path, ONE)[0] == 2 and verify(tmp_path).problems == []
    finally:
        subprocess.run(["chattr", "-a", str(tmp_path / LOG)], check=True)


def test_a_disk_that_is_full_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = b"".join(write(tmp_path))
    real = os.write

    def half(file: int, text: memoryview) -> int:
        if len(text) > 50:
            return real(file, text[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            append(tmp_path, ONE)
    assert (tmp_path / LOG).read_bytes() == before


def ask(folder: Path, content: RecordDict | None = None, options: dict[str, Any] | None = None) -> Message:
    """Let a hospital without images answer a message: with an error."""
    node = {
        "data-path": str(folder / "secret-folder"),
        "site": "north",
        "state-dir": str(folder / "state"),
        **(options or {}),
    }
    grid = LocalGrid(tiny_run(folder), 1, node_options={0: {**node, **(options or {})}})
    asked = RecordDict({CONFIG: ConfigRecord()}) if content is None else content
    (key,) = grid.push_messages([Message(asked, dst_node_id=1000, message_type=DESCRIBE)])
    (reply,) = grid.pull_messages([key])
    return reply


def test_an_error_is_noted_by_the_length_and_the_hash_of_its_text(tmp_path: Path) -> None:
    reply = ask(tmp_path)
    (line,) = verify(tmp_path / "state").lines
    assert reply.has_error() and line.sent.is_error
    assert line.sent.sha256 == contents_of(reply).sha256
    assert line.sent.records == {"error": {"text": f"text of {len(str(reply.error.reason))} bytes"}}
    assert (line.sent.site, line.sent.run, line.sent.message, line.sent.round) == ("north", "run", DESCRIBE, None)
    assert "secret" not in (tmp_path / "state" / LOG).read_text()


@pytest.mark.parametrize(
    "asked",
    [
        RecordDict(),
        RecordDict({CONFIG: ConfigRecord({"run-name": "\x1b[2J" + "x" * 9999, "task": "a\nb", "server-round": True})}),
        RecordDict({CONFIG: ConfigRecord({"run-name": [1, 2], "task": 1.5, "server-round": "1"})}),
    ],
)
def test_no_message_keeps_its_answer_out_of_the_log(tmp_path: Path, asked: RecordDict) -> None:
    assert ask(tmp_path, asked).has_error()
    (line,) = verify(tmp_path / "state").lines
    assert line.sent.round is None and len(line.sent.run) < 99 and "\x1b" not in line.sent.run + line.sent.task


def test_a_wrong_option_of_the_node_is_an_answer_in_the_log_too(tmp_path: Path) -> None:
    assert "a node option is wrong" in str(ask(tmp_path, options={"min-class-count": -1}).error.reason)
    assert len(verify(tmp_path / "state").lines) == 1


def test_nothing_leaves_if_the_log_cannot_be_written_and_the_error_names_no_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state" / LOG).mkdir(parents=True)
    reason = ask(tmp_path).error.reason
    assert (
        reason == "this node cannot write its log of what left, so nothing leaves it: its 'state-dir' must be writable"
    )
    assert f"{LOG} in 'state-dir', cannot be written" in caplog.text and "Is a directory" in caplog.text


def test_simulated_nodes_have_no_log_and_hospitals_always_have_one() -> None:
    assert log_folder({"partition-id": 0, "num-partitions": 2}) is None
    assert log_folder({"data-path": "/data", "site": "north", "state-dir": "/state"}) == Path("/state")
    assert log_folder({"data-path": "/data", "partition-id": 0, "state-dir": "/state"}) == Path(
        "/state"
    )  # wrong options
    assert log_folder({}) == Path.home() / "fl-app" / "state"


@pytest.mark.parametrize("content", [b"garbage", b"x\ny\nz", bytes(range(256)), b'{"number": 1}\n'])
def test_a_log_that_was_overwritten_is_no_log_without_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOG).write_bytes(content)
    assert "not as written" in verify(tmp_path).problems[0]
    assert verify(tmp_path).notes == []


def test_an_empty_log_and_half_a_first_line_are_noted(tmp_path: Path) -> None:
    (tmp_path / LOG).write_bytes(b"")
    assert "The log is empty" in verify(tmp_path).notes[0] and not verify(tmp_path).problems
    (tmp_path / LOG).write_bytes(b'{"number": 1, "bef')
    assert "cut off" in verify(tmp_path).notes[0] and not verify(tmp_path).problems
