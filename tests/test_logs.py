"""Who prints what: a hospital's node its own log, a simulated node nothing, since its images are another's."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict

from fl_app.logs import log_to, show_log
from fl_app.node import answering

log = logging.getLogger("fl_app.test")


@pytest.fixture(autouse=True)
def fresh_logger() -> Iterator[None]:
    """Give the app's logger the state that it has in a new process."""
    ours = logging.getLogger("fl_app")
    before = (ours.handlers, ours.level, ours.propagate)
    ours.handlers, ours.propagate = [], False  # pytest listens at the root
    ours.setLevel(logging.NOTSET)
    yield
    ours.handlers, ours.propagate = before[0], before[2]
    ours.setLevel(before[1])


def answer(node_config: dict[str, int | str], text: str) -> None:
    def node(message: Message, _: Context) -> Message:
        log.info("asked: %s", text)
        log.warning("broken: %s", text)
        return message

    message = Message(RecordDict(), dst_node_id=1, message_type="train")
    answering.print_log(message, Context(1, 1, dict(node_config), RecordDict(), {}), node)


def test_a_hospitals_node_prints_what_it_is_asked_and_which_file_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    answer({"data-path": "/data", "site": "north"}, "MEIER.png")
    printed = capsys.readouterr().err
    assert "INFO : asked: MEIER.png\n" in printed and "WARNING : broken: MEIER.png\n" in printed


def test_a_simulated_node_prints_no_name_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    answer({"partition-id": 0, "num-partitions": 2}, "MEIER.png")
    assert "".join(capsys.readouterr()) == ""


def test_a_log_that_cannot_be_kept_does_not_stop_what_it_tells_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_log()
    with log_to(tmp_path / "missing" / "run.log"):
        log.info("told all the same")
    printed = capsys.readouterr().err
    assert "The log cannot be kept in" in printed and "told all the same" in printed


def test_the_servers_log_holds_nothing_of_a_node_in_the_same_process(tmp_path: Path) -> None:
    with log_to(tmp_path / "run.log"):
        logging.getLogger("fl_app.data.folder").warning("MEIER.png is broken")
        logging.getLogger("fl_app.server").warning("a round is over")
    kept = (tmp_path / "run.log").read_text()
    assert "MEIER" not in kept and "a round is over" in kept
