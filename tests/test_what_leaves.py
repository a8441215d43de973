"""What hospitals' nodes send in a whole run: all of it is explained, and none of it names a file or a place."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.common.serde import message_to_proto

from benchmarks.local_grid import run_federation
from benchmarks.what_leaves import _HEAD, _TAIL, FILE_NAME, explanation, hospital_run, values_of, write_folders
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from tests.options import NO_MINIMUMS

PAGE = Path(__file__).parents[1] / "docs" / "what-leaves-the-building.md"
FOLDER = "images-of-patients"
SMALL: dict[str, OptionValue] = {
    "diffusion.block-channels": "8,8",
    "diffusion.mid-attention": False,
    "classification.embedding-size": 8,
}


def replies_of(tmp_path: Path, tasks: str, then: Callable[[Message], None] = lambda reply: None) -> list[Message]:
    """Run the hospitals and return all their replies; `then` is called after each."""
    replies: list[Message] = []

    def note(instruction: Message, reply: Message) -> Message:
        replies.append(reply)
        then(instruction)
        return reply

    replay = "generated" if "diffusion" in tasks else "none"
    options = {**hospital_run(tmp_path).to_flat(), **SMALL, "tasks": tasks, "classification.replay": replay}
    folders = write_folders(tmp_path / FOLDER)
    strict = {"max-unreadable-share": 0.0}
    nodes = {
        number: {**NO_MINIMUMS, "data-path": str(folders[site]), "site": site, **strict}
        for number, site in enumerate(folders)
    }
    run_federation(RunConfig.from_flat(options), len(folders), meddle=note, node_options=nodes)
    return replies


def names_a_place(replies: list[Message], tmp_path: Path, printed: str) -> bool:
    """Tell whether a file's or folder's name is in a reply, in the server's files, or in what it printed."""
    sent = [message_to_proto(reply).SerializeToString() for reply in replies]
    written = [path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(written) > 5
    return any(name.encode() in text for name in (FILE_NAME, FOLDER) for text in [*sent, *written, printed.encode()])


def test_a_whole_run_sends_nothing_that_the_page_does_not_explain_and_no_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    replies = replies_of(tmp_path, "diffusion,classification")
    names = {name for reply in replies for name, _ in values_of(reply)}
    page = PAGE.read_text(encoding="utf-8")
    for name in names:
        assert f"| {explanation(name)} |" in page, f"{name}: make the page anew"
    assert not names_a_place(replies, tmp_path, "".join(capfd.readouterr()))


def test_a_file_that_breaks_before_the_last_round_is_told_without_its_name(tmp_path: Path) -> None:
    broken = tmp_path / FOLDER / "north" / "3" / f"{FILE_NAME}-broken.png"

    def after(instruction: Message) -> None:
        if instruction.metadata.message_type == "train":
            broken.write_bytes(b"no image")

    replies = replies_of(tmp_path, "classification", after)
    failed = {str(reply.metadata.message_type): reply.error.reason for reply in replies if reply.has_error()}
    assert set(failed) == {"query.moments", "evaluate.heads", "evaluate"}
    (reason,) = set(map(str, failed.values()))
    assert re.fullmatch(r"1 of \d+ image files is missing or broken, more than this node allows", reason)
    assert not names_a_place(replies, tmp_path, "")


@pytest.mark.parametrize("page", ["README.md", "docs/what-leaves-the-building.md"])
def test_the_pages_name_every_kind_of_thing_that_leaves(page: str) -> None:
    text = " ".join((PAGE.parents[1] / page).read_text(encoding="utf-8").split())
    for kind in ("weights", "sums", "name", "number of images of each class", "files that it could not read", "fails"):
        assert kind in text
    assert "only sums" not in text and "only model weights" not in text


def test_the_words_around_the_tables_are_those_of_the_program() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.startswith(_HEAD) and page.endswith(_TAIL)


def test_a_value_that_nobody_explained_stops_the_page() -> None:
    with pytest.raises(SystemExit, match="'statistics/secret', which no explanation covers"):
        explanation("statistics/secret")
