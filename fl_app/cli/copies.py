"""The command `fl-app copies`: generated images that look like training images, shown where the images are."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fl_app.cli.words import AsJson, NodeOptions, Runs, StateDir, Voice, check_file, open_console
from fl_app.errors import OptionError, RunFolderError
from fl_app.logs import clean_text

if TYPE_CHECKING:
    from fl_app.options.node import NodeConfig
    from fl_app.runs.pairs import Found, Pair, Part

_MOST_SHOWN = 20  # pairs in the table
_LEGEND = (
    "ratio: this distance over that mean. drawn: number of the generated image, as its class. training image: its "
    "number at the site."
)


def copies(
    run: Annotated[
        str | None,
        typer.Argument(help="A simulation's run folder, or its name; with --state-dir or --node-config a run's name."),
    ] = None,
    state_dir: StateDir = None,
    node_config: NodeOptions = "",
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the pairs: a PNG, with an SVG beside it.")
    ] = None,
    runs: Runs = None,
    as_json: AsJson = False,
) -> None:
    """Show near copies of training images among images that the diffusion model drew, at the node that found them.

    A hospital runs it on its own machine: the pairs are in its 'state-dir', and no message holds them. With
    --node-config, which names the folder of images, it also names the files. A simulation's images are public, so its
    pairs are in the run folder.

    Exit status: 0, also if there are no near copies; 1 if nothing was searched, or a file is damaged (the others are
    shown); 2 for wrong input.
    """
    from fl_app.runs.pairs import joined

    if picture is not None:
        check_file(picture, "--picture")
        if picture.suffix.lower() != ".png":
            raise OptionError(f"--picture must name a PNG file, such as copies.png, got {picture}.")
    node = _node(state_dir, node_config)
    files, folder = _files(run, node, runs)
    parts, damage = _read(files)
    pairs, drawn, trained = joined(parts)
    names = _names_of(node, pairs, drawn.shape[1]) if node and node.has_own_folder else {}
    voice = Voice(as_json=as_json)
    voice.answer(
        {
            "searched": [_document(found) for found, _, _ in parts],
            "copies": [_of_pair(found, pair, names) for found, pair in pairs],
            "damaged": list(damage),
            "picture": picture,
        }
    )
    if not as_json:
        for line in describe([found for found, _, _ in parts], verdict_of(folder)):
            typer.echo(line)
        if pairs:
            typer.echo(f"{_LEGEND} {_shown(len(pairs))}")
            open_console().print(make_table(pairs[:_MOST_SHOWN], names))
    if picture is not None and pairs:
        _draw(pairs, drawn, trained, picture)
        voice.say(f"Each generated image, and beside it the training image: {picture}")
    elif pairs:
        voice.say("To see each generated image beside the training image: --picture pairs.png")
    for text in damage.values():
        voice.complain(text)
    if damage:
        raise typer.Exit(1)


def describe(parts: Sequence["Found"], verdict: str | None = None) -> list[str]:
    """Say in lines what the nodes found: for each run the total, and each site if there are several.

    Args:
        parts: what each node found in each run.
        verdict: of the audit on copies, if it is known.
    """
    from fl_app.metrics.nearest import DELTA

    lines = []
    for run, group in groupby(sorted(parts, key=lambda one: one.run), key=lambda one: one.run):
        found = list(group)
        total = {space: [sum(column) for column in zip(*rows, strict=True)] for space, rows in _by_space(found).items()}
        trained, rounds = sum(one.num_train for one in found), ", ".join(map(str, sorted({one.round for one in found})))
        where = found[0].site if len(found) == 1 else f"{len(found)} sites"
        audit = f" Audit of copies: {verdict}." if verdict else ""
        lines.append(
            f"{run}, round {rounds}, {where}, {trained} training images: near copies "
            f"{_counted(total, max(one.num_train for one in found))}.{audit}"
        )
        lines += [f"- {one.site}: {_counted(one.counts, one.num_train)}" for one in found] if len(found) > 1 else []
    return [
        *(clean_text(line, 1000) for line in lines),
        f"A near copy is closer to one training image than {DELTA:g} times the mean distance of the nearest ones; "
        "held-out images show how many there are without any copying.",
    ]


def verdict_of(run: Path | None) -> str | None:
    """Return what the audit of a run says of copies, a word; None if nothing is known."""
    from fl_app.runs.audit import read_audit

    if run is None:
        return None
    try:
        audit = read_audit(run)
    except RunFolderError:
        return "not known, its file is damaged"
    return audit.copies.verdict if audit and audit.copies else None


def _by_space(parts: Sequence["Found"]) -> dict[str, list[list[int]]]:
    spaces = dict.fromkeys(space for one in parts for space in one.counts)
    return {space: [one.counts[space] for one in parts if space in one.counts] for space in spaces}


def _counted(counts: Mapping[str, Sequence[int]], num_train: int) -> str:
    """Return near copies among generated images in each space, and among held-out ones, or why there is no count."""
    from fl_app.metrics.nearest import FEWEST_TRAIN

    said = [
        f"{copies} of {drawn} by {space} (held out {repeated} of {held_out})"
        for space, (drawn, copies, held_out, repeated) in counts.items()
        if drawn
    ]
    few = f"fewer than {FEWEST_TRAIN} training images"
    return ", ".join(said) or f"not looked for: {few if num_train < FEWEST_TRAIN else 'values that are not finite'}"


def _shown(number: int) -> str:
    return f"The nearest {_MOST_SHOWN} of {number} pairs; --json lists all." if number > _MOST_SHOWN else ""


def _read(files: Sequence[Path]) -> tuple[list["Part"], dict[str, str]]:
    """Return what the whole files hold, and of each damaged one what is lost.

    Raises:
        RunFolderError: none is whole.
    """
    from fl_app.runs.pairs import read_copies

    parts: list[Part] = []
    damage: dict[str, str] = {}
    for path in files:
        try:
            parts.append(read_copies(path))
        except RunFolderError as error:
            damage[str(path)] = f"{error} Its counts and pairs are lost."
    if not parts:
        raise RunFolderError(" ".join(damage.values()))
    return parts, damage


def make_table(pairs: Sequence[tuple["Found", "Pair"]], names: Mapping[float, str]) -> Table:
    """Make the table of near copies; a narrow screen folds it."""
    table = Table(box=None, pad_edge=False)
    runs = {found.run for found, _ in pairs}
    left_out = {*(() if len(runs) > 1 else ("run",)), *(() if names else ("file",))}
    columns = ("", "run", "site", "features", "ratio", "drawn", "as", "training image", "its class", "file")
    for name in columns:
        if name not in left_out:
            table.add_column(name, overflow="fold")
    for place, (found, pair) in enumerate(pairs):
        texts = (
            *(str(place + 1), found.run, found.site, pair.space, f"{pair.ratio:.3f}", str(pair.drawn)),
            *(pair.drawn_class, str(pair.trained), pair.trained_class, _file_of(pair, names) or "not found"),
        )
        shown = zip(columns, texts, strict=True)
        table.add_row(*(Text(clean_text(text)) for name, text in shown if name not in left_out))
    return table


def _files(run: str | None, node: "NodeConfig | None", runs: Path | None) -> tuple[list[Path], Path | None]:
    """Return the files to show, and the run folder that they are in; None: a hospital's state."""
    from fl_app.api.run import open_run
    from fl_app.options.node import NodeConfig
    from fl_app.runs.missing import why_no_copies
    from fl_app.runs.pairs import files_of_node, files_of_run

    if node is None and run is not None:
        folder = open_run(run, runs).folder
        found = files_of_run(folder)
        if not found:
            raise RunFolderError(f"{folder} holds no search for copies: {why_no_copies(folder)}.")
        return found, folder
    state = (node or NodeConfig()).state_folder
    if not state.is_dir():
        raise OptionError(f"There is no folder {state}: name a run, or the node's 'state-dir' with --state-dir.")
    found = files_of_node(state, run)
    if not found:
        raise RunFolderError(
            f"{state} holds no search for copies{f' of a run {run}' if run else ''}: no run has come so far, or its "
            "options 'audit.membership' and 'audit.copies-images' ask for none."
        )
    return found, None


def _node(state_dir: Path | None, node_config: str) -> "NodeConfig | None":
    from fl_app.cli.doctor import read_node_options
    from fl_app.options.node import NodeConfig

    if state_dir is not None and node_config:
        raise OptionError("--state-dir and --node-config both name the folder: give one of them.")
    if node_config:
        return NodeConfig.from_flat(read_node_options(node_config))
    return None if state_dir is None else NodeConfig.from_flat({"state-dir": str(state_dir)})


def _names_of(node: "NodeConfig", pairs: Sequence[tuple["Found", "Pair"]], num_channels: int) -> dict[float, str]:
    """Return the files of the training images, by their positions; every file of the hospital's folder is decoded."""
    from fl_app.data.naming import files_of
    from fl_app.node.split import find_key
    from fl_app.node.state import key_file

    positions = {pair.position for _, pair in pairs if pair.position is not None}
    key = find_key(key_file(node), makes=False)
    return files_of(Path(node.data_path).expanduser(), positions, num_channels, key)


def _file_of(pair: "Pair", names: Mapping[float, str]) -> str | None:
    return None if pair.position is None else names.get(pair.position)


def _document(found: "Found") -> dict[str, object]:
    from fl_app.files import to_json

    return {key: value for key, value in to_json(found).items() if key != "pairs"}


def _of_pair(found: "Found", pair: "Pair", names: Mapping[float, str]) -> dict[str, object]:
    from fl_app.files import to_json

    return {"run": found.run, "site": found.site, **to_json(pair), "file": _file_of(pair, names)}


def _draw(pairs: Sequence[tuple["Found", "Pair"]], drawn: Any, trained: Any, path: Path) -> None:
    """Draw a row for each pair, numbered as in the table: the generated image, and the training image."""
    import torch

    from fl_app.data.loading import to_float
    from fl_app.diffusion.pictures import save_pairs

    names = [
        f"{place + 1}: {clean_text(found.site)}, {pair.space} {pair.ratio:.2f}\nclass {classes_of(pair)}"
        for place, (found, pair) in enumerate(pairs)
    ]
    save_pairs(to_float(torch.stack([drawn, trained], dim=1).flatten(0, 1)), names, ("drawn", "training image"), path)


def classes_of(pair: "Pair") -> str:
    """Return the class of a pair, or both of its classes."""
    from fl_app.pictures import shorten

    classes = dict.fromkeys((shorten(clean_text(pair.drawn_class)), shorten(clean_text(pair.trained_class))))
    return " / ".join(classes)
