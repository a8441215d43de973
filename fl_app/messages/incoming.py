"""What comes from a node: bytes judged by their length before they are read, texts made harmless."""

import struct
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line imports this, and is to start at once
    from numpy.typing import NDArray

LONGEST_REASON = 200

_CUT_BEFORE = 4  # times the longest text is looked at: a node may send gigabytes
_UNSAFE_KINDS = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of characters, ends of lines and paragraphs
_TURNS_TEXT = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_HEADER_BYTES_EACH = 512  # of an array in the header of safetensors: its shape, dtype and position, beside its name
_LENGTH_BYTES = 8  # in which the length of the header is written


class RejectedReply(Exception):
    """A reply is left out; the text is the reason, which is logged and counted against its node."""


def clean_text(text: str, longest: int = LONGEST_REASON) -> str:
    """Return a text in one line without control characters, a long one cut to its beginning.

    A terminal obeys control characters, and some others turn the direction of what follows them.
    """
    safe = "".join(
        " " if letter in _TURNS_TEXT or unicodedata.category(letter) in _UNSAFE_KINDS else letter
        for letter in text[: _CUT_BEFORE * longest]
    )
    line = " ".join(safe.split())
    return f"{line[:longest]}…" if len(line) > longest else line


def check_size(name: str, data: bytes, like: "Mapping[str, NDArray[Any]]") -> None:
    """Raise RejectedReply if packed arrays take more bytes than arrays like the expected ones.

    Neither the header nor the arrays are read: both together cost no more than those of a fit reply.

    Args:
        name: of the record, for the message.
        data: a safetensors file.
        like: arrays of the expected names, shapes and dtypes.
    """
    header_limit = 4096 + sum(len(key.encode()) + _HEADER_BYTES_EACH for key in like)
    limit = _LENGTH_BYTES + header_limit + sum(value.nbytes for value in like.values())
    if len(data) > limit:
        raise RejectedReply(f"its {name!r} takes {len(data) / 1e6:.1f} MB, expected at most {limit / 1e6:.1f} MB")
    if len(data) < _LENGTH_BYTES or struct.unpack("<Q", data[:_LENGTH_BYTES])[0] > header_limit:
        raise RejectedReply(f"its {name!r} cannot be read: the header is damaged or names too many arrays")


def number(value: object) -> float:
    """Return a value that must be a number; raises TypeError."""
    if isinstance(value, int | float):
        return float(value)
    raise TypeError(type(value).__name__)


def whole(value: object) -> int:
    """Return a value that must be a whole number; raises TypeError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError(type(value).__name__)


def text(value: object) -> str:
    """Return a value that must be a text; raises TypeError."""
    if isinstance(value, str):
        return value
    raise TypeError(type(value).__name__)
