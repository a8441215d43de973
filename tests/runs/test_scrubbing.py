"""What is taken out of logs, and what stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_app.runs.scrubbing import scrub, scrub_json

_NAME = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=5, max_size=9)
_WORDS = st.lists(_NAME.map(lambda name: f"zq{name}"), min_size=1, max_size=4)


@pytest.mark.parametrize(
    "text",
    [
        "/data/Jane Mary Doe/scan 7.png cannot be read as an image: it is broken",
        "reading Jane Doe.png failed",
        "Jane/Doe/IM0001 is no image",
        "cannot identify image file '/data/Jane'",
        "cannot identify image file 'Jane Doe.dcm'",
        "file:///data/Jane Doe/x",
        "C:\\Users\\Jane Doe\\x",
        "~/scans/Jane Doe/x",
        "path=/data/Jane Doe/x",
        'data-path="/data/Doe" site="north"',
        "see (/data/Jane Doe/x y)",
        "PosixPath('/data/Jane Doe')",
        "\x1b[91m/data/Jane\x1b[0m",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nJane\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\nJane, and the end is missing",
        "ecdsa-sha2-nistp384 AAAAE2VjZHNhJane Doe@host",
        "logged in as jdoe on Jane-station",
    ],
)
def test_names_of_patients_files_and_keys_are_taken_out(text: str) -> None:
    found = scrub(text, ["jdoe", "Jane-station"])
    assert "Jane" not in found and "oe" not in found


@pytest.mark.parametrize(
    "text",
    [
        "INFO : diffusion round 3/15: 2 of 3 nodes contributed; loss training 0.5, EMA 0.4",
        "120 images/s, 1:15, at 127.0.0.1:8443",
        "site-1 refused: the update is 12.5 times as long as the median",
        "torch.OutOfMemoryError: CUDA out of memory.",
        "flwr 1.42.0, 5 GiB",
    ],
)
def test_what_support_needs_stays(text: str) -> None:
    assert scrub(text) == text


def test_a_traceback_can_still_be_read() -> None:
    line = '  File "/home/jane/app/fl_app/data/folder.py", line 5, in read'
    assert scrub(line) == '  File "[…]/fl_app/data/folder.py", line 5, in read'


def test_the_message_after_a_path_stays() -> None:
    assert scrub("/data/a b.png cannot be read: it is broken.") == "[path] cannot be read: it is broken."


@given(_WORDS, st.sampled_from(["/data/{} broke", "'{}.png' broke", "/x/{}.dcm: broken", "no file /{}", "{}.JPG"]))
def test_no_word_of_a_path_or_file_stays(words: list[str], template: str) -> None:
    found = scrub(template.format(" ".join(words)))
    assert not any(word in found for word in words)


def test_json_is_scrubbed_in_depth() -> None:
    found = scrub_json({"a": ["/data/Jane", 1, None], "/data/Jane": {"b": "Jane.png"}})
    assert found == {"a": ["[path]", 1, None], "[path]": {"b": "[file]"}}
