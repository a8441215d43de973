"""How hard the code is to find one's way in: files that a round runs through, loose modules, tiny files and helpers.

A round is the second of two, from the end of the first one to the final measurement, of two nodes in this process; a
file counts if a function of it is called. Code that only runs at import does not.
"""

import argparse
import ast
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from flwr.app import Context, Message, RecordDict

from benchmarks.local_grid import LocalGrid
from benchmarks.output import Row, parser, run
from fl_app import server
from fl_app.flower import identify
from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fl_app"
_SHORT_HELPER = 10  # lines
_SHORT_FILE = 60
_LONG_FILE = 300


def measure(_: argparse.Namespace) -> Iterator[Row]:
    """Yield each figure as soon as it is known."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in sources.items()}
    lines = {path: text.count("\n") for path, text in sources.items()}
    for task in ("diffusion", "classification"):
        files = files_of_a_round(task)
        longest = max(files, key=lambda path: lines.get(path, 0))
        yield row(f"files that a round of {task} runs through", len(files), f"longest: {named(longest, lines)}")
    loose = [path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    yield row("loose top-level modules", len(loose), " ".join(path.stem for path in loose))
    once = list(helpers_used_once(trees))
    short = [name for name, length in once if length <= _SHORT_HELPER]
    yield row(f"private helpers used once, at most {_SHORT_HELPER} lines", len(short), f"of any length: {len(once)}")
    tiny = [path for path, count in lines.items() if count < _SHORT_FILE and path.name != "__init__.py"]
    yield row(f"files under {_SHORT_FILE} lines", len(tiny), " ".join(str(path.relative_to(PACKAGE)) for path in tiny))
    long = [named(path, lines) for path, count in lines.items() if count > _LONG_FILE]
    yield row(f"files above {_LONG_FILE} lines", len(long), " ".join(long))
    yield row("dict[str, Any]", sum(text.count("dict[str, Any]") for text in sources.values()), "")
    yield row("lines", sum(lines.values()), f"in {len(lines)} files")


def row(what: str, value: int, detail: str) -> Row:
    """Return a row of the table."""
    return {"what": what, "value": value, "detail": detail}


def named(path: Path, lines: dict[Path, int]) -> str:
    """Return a file's name and its number of lines."""
    return f"{path.relative_to(ROOT)} ({lines.get(path, 0)})"


class WatchingGrid(LocalGrid):
    """Notes which files functions are called of, from the replies of the first round to the final measurement.

    Attributes:
        files: their names.
    """

    files: set[str]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Start with the second round of training, stop before the final measurement."""
        batch = list(messages)
        if batch[0].metadata.message_type == "evaluate":
            sys.setprofile(None)
        return super().push_messages(batch)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Start to watch with the last reply of the first round."""
        for reply in super().pull_messages(message_ids):
            if reply.metadata.message_type == "train" and not self.pending and not hasattr(self, "files"):
                self.files = set()
                sys.setprofile(self._note)
            yield reply

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            self.files.add(frame.f_code.co_filename)


def files_of_a_round(task: str) -> set[Path]:
    """Return the files of the app that the last round of a small federation calls a function of."""
    with tempfile.TemporaryDirectory() as folder:
        own: dict[str, OptionValue] = {
            "output-dir": folder,
            "run-name": "run",
            "tasks": task,
            "data.limit": 100,
            "gallery-every": 0,
            f"{task}.num-rounds": 2,
            "diffusion.block-channels": "8,8",
            "diffusion.epochs": 1.0,
            "sampling.images-per-class": 1,
        }
        config = RunConfig.from_flat({**default_options(ROOT / "pyproject.toml"), **own})
        identify(1, 1)
        grid = WatchingGrid(config, 2)
        server.run(grid, Context(1, 1, {}, RecordDict(), dict(config.to_flat())))
    paths = {Path(name) for name in grid.files}
    return {path for path in paths if path.is_relative_to(PACKAGE) or path.parent == ROOT}


def helpers_used_once(trees: dict[Path, ast.Module]) -> Iterator[tuple[str, int]]:
    """Yield the private functions and methods that are named in one other place, with their numbers of lines."""
    uses: Counter[str] = Counter()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                uses[node.id] += 1
            elif isinstance(node, ast.Attribute):
                uses[node.attr] += 1
    for tree in trees.values():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or node.decorator_list or uses[node.name] != 1:
                continue
            if node.name.startswith("_") and not node.name.startswith("__") and node.end_lineno:
                yield node.name, node.end_lineno - node.lineno + 1


if __name__ == "__main__":
    run(measure, parser(__doc__).parse_args())
