"""Taking out of messages what a hospital's tables and folders hold: labels, classes, patients, values of headers."""

import re
from collections.abc import Collection

from fl_app.data.listing import PART_NAMES
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import option_names
from fl_app.plugins import BUILT_IN

# Messages that list values without quotes: what stands between the two groups goes.
_LISTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(the label )'.*'( is not a class of this run)",
        r"(its classes are ).*()$",
        r"(other classes than the run: ).*?(; other (?:channels|image) |\. (?:Site '|Change the folders|Fix them)|$)",
        r"(sites have the classes ).*(; \d+ channels)",
        r"(beside the folder of training images, in: ).*(\. Move them)",
        r"(must name each class once, got ).*()$",
        r"(in pairs; found ).*()$",
        r"(Training images: ).*?(\. None of |\. Because of 'min-class-count'|$)",
        r"(None of ).*(: if you have such images)",
        r"(no prototype of ).*( leaves this node)",
    )
)
# An apostrophe inside a word opens and closes nothing. Python puts a text with an apostrophe into double quotes.
_QUOTED = re.compile(r"""(?<!\w)'(.+?)'(?!\w)|(?<!\w)"([^"]*'[^"]*)"(?!\w)""")
_CODE_FILE = re.compile(r'\s*File "[^"]*", line \d+')
_OURS = re.compile(r"\[(?:path|file|key)\]|\[…\][\w./\\-]+\.py|(?:train|evaluate|query)(?:\.[a-z]+)?")
_COLUMNS = ("file", "label", "patient", "split", "image", "class")
_OTHER_WORDS = ("CSV UTF-8", "auto", "linear", "fl-app[dicom]", "state-dir")


def known_words() -> frozenset[str]:
    """Return the words that messages quote and no hospital has chosen: options, built-in names, parts, columns."""
    options = [*option_names(RunConfig), *option_names(NodeConfig)]
    parts = [part for option in options for part in (option, option.rpartition(".")[2])]
    names = [name for kind in BUILT_IN.values() for name in kind]
    return frozenset((*parts, *names, *PART_NAMES, *PART_NAMES.values(), *_COLUMNS, *_OTHER_WORDS))


def scrub_values(text: str, known: Collection[str]) -> str:
    """Replace quoted values, and the lists of classes and folders in our own messages.

    Lines of code in a traceback stay: no value stands in them.

    Args:
        text: any number of lines.
        known: words that stay although they are quoted, such as `known_words` and the run's sites.
    """
    lines, is_code = [], False
    for line in text.split("\n"):
        lines.append(line if is_code else _scrub(line, known))
        is_code = _CODE_FILE.match(line) is not None
    return "\n".join(lines)


def _scrub(line: str, known: Collection[str]) -> str:
    for pattern in _LISTS:
        line = pattern.sub(r"\1[values]\2", line)
    return _QUOTED.sub(lambda found: _keep_known(found, known), line)


def _keep_known(found: re.Match[str], known: Collection[str]) -> str:
    value = found[1] or found[2]
    is_ours = value in known or _OURS.fullmatch(value) is not None
    return found[0] if is_ours else "[value]"
