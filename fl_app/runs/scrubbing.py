"""Taking out of a text what names a patient, a label, a file or a key; too much rather than too little."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fl_app.runs.scrubbing_values import known_words, scrub_values

_KEY_BLOCK = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_KEY_LINE = re.compile(r"\b(?:ssh|ecdsa|sk)-[a-z0-9@.-]+ +AAAA\S+(?: \S+)?")

# A path in quotes goes with all that is in them; of Python's own files the end stays, which a traceback is read by.
_SOURCE = re.compile(r"""(["'])(?:[A-Za-z]:|~)?[\\/][^"'\n]*?((?:[\\/][\w.-]+){1,3}\.py)\1""")
_QUOTED = re.compile(r"""(["'])(?:file:/|[A-Za-z]:|~|\.{1,2})?[^"'\n]*[\\/][^"'\n]*\1""")

# Without quotes a path may hold blanks, so it ends only where our messages go on after one, or the line ends.
_MESSAGE = (
    r"(?= (?:cannot|could|is|has|holds|does|lies|belongs|was|exists|failed|and|or|to|as|in|from)\b"
    r"|: |; |, |\. |\.?$|[\"'\])>,;])"
)
_PATH = re.compile(
    rf"(?<![\w.:/\\\]])(?:file:/)?(?:[A-Za-z]:|~\w*|\.{{1,2}})?[/\\](?=[^\s/\\]).*?{_MESSAGE}", re.MULTILINE
)

# A folder's name may hold commas and apostrophes; these messages of ours say where it ends.
_OWN_PATH = re.compile(
    r"(?<![\w.:/\\\]])(?:[A-Za-z]:)?[/\\][^\n]*(?= (?:is not a class of this run|is a folder\. Expected|"
    r"is no [^.]* file\. Expected|is the same file as|lies outside the class folders|cannot be read as )|, line \d+)"
)

# What is left that ends as a file of images, labels, keys or weights does, with the words before it.
_ENDINGS = (
    "png|jpe?g|tiff?|bmp|gif|dcm|dicom|ima|nii(?:\\.gz)?|npz|npy|csv|tsv|xlsx?|zip|tar|gz|h5|"
    "key|pem|crt|pub|safetensors|pt|pth|ckpt|bin|pkl"
)
_FILE = re.compile(rf"[^\s:,;\"'()\[\]{{}}=][^\n:,;\"'()\[\]{{}}=]*?\.(?:{_ENDINGS})\b", re.IGNORECASE)
_RELATIVE = re.compile(r"(?<!\S)[^\s\"']*[A-Za-z_][^\s\"']*[/\\][^\s\"']*[^\s\"'.,;:]")
_UNITS = re.compile(r"(?:[\w.]+/(?:s|round|image)|(?:[A-Z][a-z]*|\d+)/\d+)$")
_LONGEST_LINE = 1000  # the search takes time by the square of a line; what is cut off is lost
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def scrub(text: str, names: Iterable[str] = (), kept: Collection[str] | None = None) -> str:
    """Replace keys, paths, names of files, and values of a hospital's tables, folders and headers.

    Args:
        text: any number of lines; of a very long one only the beginning stays.
        names: further words to be taken out, such as the user's.
        kept: words that stay although a message quotes them; None: `known_words()`.
    """
    text = _ESCAPES.sub("", text)
    text = _KEY_LINE.sub("[key]", _KEY_BLOCK.sub("[key]", text))
    words = list(names)
    text = "\n".join(_scrub_line(line[:_LONGEST_LINE]) for line in text.split("\n"))
    text = scrub_values(text, known_words() if kept is None else kept)
    for word in words:
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "[name]", text)
    return text


def _scrub_line(text: str) -> str:
    text = _SOURCE.sub(r"\1[…]\2\1", text)
    text = _QUOTED.sub(_keep_source, text)
    text = _PATH.sub("[path]", _OWN_PATH.sub("[path]", text))
    text = _FILE.sub("[file]", text)
    return _RELATIVE.sub(_keep_unit, text)


def scrub_json(value: Any, names: Iterable[str] = (), kept: Collection[str] | None = None) -> Any:
    """Scrub every text in a JSON value, keys of objects too; arguments as for `scrub`."""
    kept = known_words() if kept is None else kept
    if isinstance(value, str):
        return scrub(value, names, kept)
    if isinstance(value, Mapping):
        return {scrub(str(key), names, kept): scrub_json(one, names, kept) for key, one in value.items()}
    return [scrub_json(one, names, kept) for one in value] if isinstance(value, list) else value


def _keep_source(found: re.Match[str]) -> str:
    return found[0] if "[…]" in found[0] else f"{found[1]}[path]{found[1]}"


def _keep_unit(found: re.Match[str]) -> str:
    return found[0] if _UNITS.match(found[0]) or "[…]" in found[0] or "[path]" in found[0] else "[path]"
