"""Damage to texts, options and documents, by a seed: what a person, a disk or another program may leave there."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.lies.values import lies_about

_SNIPPETS = (
    b"", b"\x00", b"\xff\xfe", b"\n", b"\r\n", b",", b";", b"=", b'"', b"'", b"[", b"]", b"{", b"}", b"null", b"true",
    b"-1", b"1e999", b"NaN", b"9" * 400, b"../..", b"/etc/passwd", b"\x1b[2J", "\u202e\u0000é".encode(), b"# ", b"\\",
    b"[[a]]", b"a.b.c = 1\n", b"{}" * 200, b"[" * 3000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "x", "x" * 1000,
    "1", "true", "..", "a/b", "a,b", ",", "\x00", "\x1b[2J", "node:leave", [], ["a"], {}, {"a": 1}, b"x", "1=a,2=a",
    "digits", "../../etc", "nan", "1e5",
)  # fmt: skip


def damaged(text: bytes, generator: np.random.Generator) -> bytes:
    """Return a text with one to three pieces changed, cut off, repeated, moved or put in."""
    for _ in range(int(generator.integers(1, 4))):
        start, end = sorted(int(at) for at in generator.integers(0, len(text) + 1, 2))
        end = min(end, start + int(generator.integers(0, 40)))
        snippet = _SNIPPETS[int(generator.integers(len(_SNIPPETS)))]
        lines = text.split(b"\n")
        match int(generator.integers(7)):
            case 0:
                text = text[:start] + snippet + text[end:]
            case 1:
                text = text[:start] + text[end:]
            case 2:
                text = text[:start]
            case 3:
                text = text[:end] + text[start:end] * 3 + text[end:]
            case 4:
                text = b"\n".join(lines[int(at)] for at in generator.permutation(len(lines)))
            case 5:
                text = b"\n".join(line for line in lines if generator.random() < 0.8)
            case _:
                changed = bytearray(text)
                for at in range(start, end):
                    changed[at] ^= 1 << int(generator.integers(8))
                text = bytes(changed)
    return text


def changed_values(values: Mapping[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    """Return named values, one to three of them false, missing or under another name."""
    found = dict(values)
    for _ in range(int(generator.integers(1, 4))):
        names = sorted(found)
        name = names[int(generator.integers(len(names)))] if names else "x"
        value = VALUES[int(generator.integers(len(VALUES)))]
        match int(generator.integers(6)):
            case 0:
                found.pop(name, None)
            case 1:
                found[damaged(name.encode(), generator).decode(errors="replace")] = value
            case 2:
                found[f"{name}.x"] = value
            case 3 if isinstance(found.get(name), bool | int | float | str | list):
                lies = list(lies_about(found[name]).values())
                found[name] = lies[int(generator.integers(len(lies)))]
            case _:
                found[name] = value
    return found


def changed_document(document: Any, generator: np.random.Generator) -> Any:
    """Return a JSON document, one value of which, at any depth, is another."""
    if isinstance(document, dict) and document and generator.random() < 0.85:
        key = sorted(document)[int(generator.integers(len(document)))]
        if generator.random() < 0.15:
            return changed_values(document, generator)
        return {**document, key: changed_document(document[key], generator)}
    if isinstance(document, list) and document and generator.random() < 0.85:
        at = int(generator.integers(len(document)))
        return [*document[:at], changed_document(document[at], generator), *document[at + 1 :]]
    return VALUES[int(generator.integers(len(VALUES)))]


def as_json(document: Any) -> bytes:
    """Write a document that may hold numbers that are not finite, and values that JSON does not know."""
    return json.dumps(document, default=repr).encode(errors="surrogatepass")
