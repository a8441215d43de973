"""The command `fl-app copies`: generated images that look like training images, shown where the images are."""

from collections.abc import Mapping, Sequence
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
    from fl_app.runs.copies import Found, Pair


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

    Exit status: 0, also if there are no near copies; 1 if nothing was searched or a file is damaged; 2 for wrong input.
    """
    from fl_app.runs.copies import joined, read_copies

    if picture is not None:
        check_file(picture, "--picture")
        if picture.suffix.lower() != ".png":
            raise OptionError(f"--picture must name a PNG file, such as copies.png, got {picture}.")
    node = _node(state_dir, node_config)
    files = _files(run, node, runs)
    parts = [read_copies(path) for path in files]
    pairs, drawn, trained = joined(parts)
    names = _names_of(node, pairs, drawn.shape[1]) if node and node.data_path else {}
    voice = Voice(as_json=as_json)
    voice.answer(
        {
            "searched": [_document(found) for found, _, _ in parts],
            "copies": [_of_pair(found, pair, names) for found, pair in pairs],
            "picture": picture,
        }
    )
    if not as_json:
        for found, _, _ in parts:
            typer.echo(describe(found))
        if pairs:
            open_console().print(make_table(pairs, names))
    if picture is not None and pairs:
        _draw(pairs, drawn, trained, picture)
        voice.say(f"Each generated image, and beside it the training image: {picture}")


def describe(found: "Found") -> str:
    """Say in a line what a node found in a run."""
    said = [
        f"by {space} {copies} of {drawn} generated images are near copies, and {repeated} of {held_out} held-out images"
        for space, (drawn, copies, held_out, repeated) in found.counts.items()
        if drawn
    ]
    what = "; ".join(said) or "nothing was compared: the model drew values that are not finite"
    kept = f" {len(found.pairs)} pairs are shown." if found.pairs else ""
    return clean_text(
        f"{found.run}, {found.site}, round {found.round}, {found.num_train} training images: {what}.{kept}", 1000
    )


def make_table(pairs: Sequence[tuple["Found", "Pair"]], names: Mapping[float, str]) -> Table:
    """Make the table of near copies; a narrow screen folds it."""
    table = Table(box=None, pad_edge=False)
    for name in ("run", "site", "features", "ratio", "drawn", "as", "training image", "class", "file"):
        if name != "file" or names:
            table.add_column(name, overflow="fold")
    for found, pair in pairs:
        file = [Text(clean_text(_file_of(pair, names) or "not found"))] if names else []
        table.add_row(
            *(Text(clean_text(text)) for text in (found.run, found.site, pair.space)),
            f"{pair.ratio:.3f}",
            str(pair.drawn),
            Text(clean_text(pair.drawn_class)),
            str(pair.trained),
            Text(clean_text(pair.trained_class)),
            *file,
        )
    return table


def _files(run: str | None, node: "NodeConfig | None", runs: Path | None) -> list[Path]:
    from fl_app.api.run import open_run
    from fl_app.options.node import NodeConfig
    from fl_app.runs.copies import files_of_node, files_of_run

    if node is None and run is not None:
        folder = open_run(run, runs).folder
        found = files_of_run(folder)
        where = f"{folder} holds no search for copies: it is the run of hospitals, which have their own, or"
    else:
        state = (node or NodeConfig()).state_folder
        if not state.is_dir():
            raise OptionError(f"There is no folder {state}: name a run, or the node's 'state-dir' with --state-dir.")
        found = files_of_node(state, run)
        where = f"{state} holds no search for copies{f' of a run {run}' if run else ''}: no run has come so far, or"
    if not found:
        raise RunFolderError(f"{where} its options 'audit.membership' and 'audit.copies-images' ask for none.")
    return found


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
    """Draw a row for each pair: the generated image, and the training image."""
    import torch

    from fl_app.data.loading import to_float
    from fl_app.diffusion.pictures import save_grid

    images = to_float(torch.stack([drawn, trained], dim=1).flatten(0, 1))
    names = [f"{place + 1}: {pair.space} {pair.ratio:.2f}" for place, (_, pair) in enumerate(pairs) for _ in range(2)]
    save_grid(images, names, 2, path)
