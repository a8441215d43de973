"""The command `fl-app options`: every option of a run with its default."""

import json
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fl_app.cli.words import App, AsJson, Voice, open_console
from fl_app.options.app_files import read_defaults
from fl_app.options.run import describe_options
from fl_app.options.sections import OptionValue, unknown_option
from fl_app.simulation.app import find_app, is_recipe, read_recipe
from fl_app.simulation.choices import choose_config


def show_options(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A name in recipes/, or a TOML file, to check; or an option or a section to look up."),
    ] = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """List every option of a run: name, default, meaning. Of a recipe: check it before it is submitted.

    Exit status: 2 if an option is unknown, of another type or out of range, or names something that is not installed.
    """
    folder = find_app(app)
    defaults = read_defaults(folder)
    chosen = defaults
    if recipe is not None and not is_recipe(recipe, folder) and (found := look_up(recipe, defaults)):
        chosen, recipe = found, None
    if recipe is not None:
        from fl_app.data.sources import find_source  # imports torch

        find_source(choose_config(folder, recipe, ()).data.source)
        chosen = read_recipe(recipe, folder)
    if as_json:
        rows = [
            {"name": name, "value": chosen[name], "default": defaults[name], "meaning": meaning}
            for name, meaning in describe_options()
            if name in chosen
        ]
        Voice(as_json=True).answer({"recipe": recipe, "options": rows})
        return
    if recipe is not None:
        for name, value in chosen.items():
            typer.echo(f"{name} = {json.dumps(value, ensure_ascii=False)}")
        typer.echo(f"{recipe}: {len(chosen)} options, all of them fit.")
        return
    open_console().print(make_table(chosen))


def look_up(name: str, defaults: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Return the options that a name means, with their defaults: one, or those of a section; none if it means a recipe.

    Raises:
        OptionError: the name has the form of an option, and there is none of that name.
    """
    found = {one: value for one, value in defaults.items() if one == name or one.startswith(f"{name}.")}
    if not found and "." in name and "/" not in name and not name.endswith(".toml"):
        raise unknown_option(name, list(defaults))
    return found


def make_table(defaults: Mapping[str, OptionValue]) -> Table:
    """Make the table of these options with their defaults."""
    table = Table("option", "default", "meaning", box=None, pad_edge=False)
    for name, description in describe_options():
        if name not in defaults:
            continue
        default = defaults[name]
        shown = str(default).lower() if isinstance(default, bool) else str(default) if default != "" else '""'
        table.add_row(Text(name, no_wrap=True), shown, Text(description))
    return table
