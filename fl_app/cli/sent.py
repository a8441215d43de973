"""The command `fl-app sent`: what left this hospital, when and for which run, and is the log as it was written?"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from fl_app.cli.words import AsJson, NodeOptions, StateDir, Voice, open_console
from fl_app.errors import OptionError
from fl_app.logs import clean_text

if TYPE_CHECKING:
    from fl_app.node.sent import Line, Verified

_SHORTEST_HASH = 8  # digits of a noted hash


def sent(
    state_dir: StateDir = None,
    node_config: NodeOptions = "",
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show this run alone: its name, or Flower's id of it.")
    ] = None,
    noted: Annotated[
        str | None, typer.Option(metavar="SHA-256", help="Is the line with this hash, noted earlier, still there?")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the log of what left this hospital, and verify it: each line holds the hash of the line before.

    A line that was changed, removed or moved is named by its number. That holds against mistakes, and against a person
    who changes single lines. Whoever can write the file can also write all of it anew, or leave out the last lines:
    the hash of the last line, noted elsewhere and given as --noted, shows that.

    Exit status: 1 if the log is not as it was written, or has no line with the hash --noted; 2 if there is no folder.
    """
    from fl_app.node.sent import LOG, verify

    folder = _folder(state_dir, node_config)
    if not folder.is_dir():
        raise OptionError(f"There is no folder {folder}: name the node's 'state-dir' with --state-dir.")
    if noted is not None and len(noted) < _SHORTEST_HASH:
        raise OptionError(f"--noted must be a line's hash or its first {_SHORTEST_HASH} digits or more, got {noted!r}.")
    found = verify(folder)
    problems = list(found.problems)
    if noted is not None and not any(line.hash.startswith(noted.lower()) for line in found.lines):
        problems.append(f"No line has the hash {noted}: lines were removed, or the log was written anew.")
    shown = of_run(found.lines, run) if run is not None else found.lines
    voice = Voice(as_json=as_json)
    voice.answer(
        {
            "log": folder / LOG,
            "exists": found.exists,
            "lines": len(found.lines),
            "verified": not problems,
            "problems": problems,
            "notes": found.notes,
            "last-hash": found.lines[-1].hash if found.lines else None,
            "replies": [_document(line) for line in shown],
        }
    )
    if not as_json:
        _print(folder / LOG, found, shown, run)
    for problem in problems:
        voice.complain(problem)
    raise typer.Exit(1 if problems else 0)


def of_run(lines: Sequence["Line"], run: str) -> list["Line"]:
    """Return the lines of a run, by its name or Flower's id; a message that names no run has the id."""
    ids = {line.sent.flower_run for line in lines if run in (line.sent.run, line.sent.flower_run)}
    return [
        line
        for line in lines
        if run in (line.sent.run, line.sent.flower_run) or (line.sent.flower_run in ids and not line.sent.run)
    ]


def make_table(lines: Sequence["Line"]) -> Table:
    """Make the table of replies; a narrow screen folds it."""
    table = Table(box=None, pad_edge=False)
    sites = len({line.sent.site for line in lines}) > 1
    for name in ("line", "time (UTC)", *(("site",) if sites else ()), "run", "task", "answers", "round", "what"):
        table.add_column(name, overflow="fold")
    table.add_column("bytes", justify="right")
    for line in lines:
        one = line.sent
        where = [one.run or one.flower_run, one.task, one.message]
        what = ", ".join(f"{name} {len(forms)}" for name, forms in one.records.items())
        table.add_row(
            str(line.number),
            clean_text(one.time[:19].replace("T", " ")),
            *(Text(clean_text(text)) for text in ([one.site, *where] if sites else where)),
            "" if one.round is None else str(one.round),
            Text("an error's text" if one.is_error else clean_text(what)),
            f"{one.bytes:,}",
        )
    return table


def _print(log: Path, found: "Verified", shown: Sequence["Line"], run: str | None) -> None:
    if not found.exists:
        typer.echo(f"{log}: there is no log. Nothing has left this node, or the file was removed.")
        return
    if shown:
        open_console().print(make_table(shown))
        size = sum(line.sent.bytes for line in shown)
        errors = sum(line.sent.is_error for line in shown)
        typer.echo(f"{len(shown):,} replies, {errors:,} of them errors: {size / 1e6:,.1f} MB.")
    elif run is not None:
        names = {line.sent.flower_run: line.sent.run for line in found.lines if line.sent.run}
        known = dict.fromkeys(names.get(line.sent.flower_run, line.sent.flower_run) for line in found.lines)
        typer.echo(f"No reply to a run {run} is in the log; it has {clean_text(', '.join(known)) or 'none'}.")
    for note in found.notes:
        typer.echo(note)
    if not found.problems:
        typer.echo(f"{log}: {len(found.lines):,} lines, none changed, removed or moved.")
    if found.lines:
        last = found.lines[-1]
        typer.echo(f"The last line, {last.number}, has the SHA-256 {last.hash}")
        typer.echo("Note it elsewhere: --noted then shows whether the log up to that line is still the same.")


def _document(line: "Line") -> dict[str, object]:
    from fl_app.files import to_json

    return {"number": line.number, **to_json(line.sent), "hash": line.hash}


def _folder(state_dir: Path | None, node_config: str) -> Path:
    from fl_app.cli.doctor import read_node_options
    from fl_app.options.node import NodeConfig

    if state_dir is not None and node_config:
        raise OptionError("--state-dir and --node-config both name the folder: give one of them.")
    options = read_node_options(node_config) if node_config else {"state-dir": str(state_dir or "")}
    return NodeConfig.from_flat(options).state_folder
