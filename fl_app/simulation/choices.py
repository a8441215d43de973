"""What a run shall do: the defaults, overridden by a recipe, overridden by `--set`; checked before anything starts."""

import datetime
import json
import secrets
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fl_app.errors import OptionError
from fl_app.options.run import RunConfig, default_options
from fl_app.options.sections import OptionValue, did_you_mean
from fl_app.runs.overview import find_named, runs_folder, similar_run


@dataclass(frozen=True)
class Plan:
    """A checked choice of options.

    Attributes:
        config: every option.
        overrides: the options that differ from the app's defaults, flat and dotted, for `flwr run --run-config`.
        output: where run folders are made, absolute.
        folder: the folder of this run, absolute; None where the server looks for one to resume.
    """

    config: RunConfig
    overrides: Mapping[str, OptionValue]
    output: Path
    folder: Path | None


def plan_run(
    app: Path,
    recipe: str | None,
    settings: Iterable[str] | Mapping[str, OptionValue],
    output: Path | None,
    num_nodes: int,
) -> Plan:
    """Merge and check the options of a run, and choose its name and folder.

    Args:
        app: folder of the Flower app; its pyproject.toml holds the defaults.
        recipe: a name in the app's `recipes/`, or a TOML file.
        settings: `key=value` each, as given with `--set`, or values by name.
        output: where run folders are made; None leaves it to the option `output-dir`.
        num_nodes: how many nodes will be simulated.

    Raises:
        OptionError: if anything does not fit.
    """
    defaults = read_defaults(app)
    overrides = _merge(app, recipe, settings, defaults)
    config = RunConfig.from_flat(defaults | overrides)
    _check_enough_nodes(config, num_nodes)

    root = runs_folder(output or config.output_dir).absolute()
    overrides["output-dir"] = str(root)
    if config.data.directory:
        overrides["data.directory"] = str(Path(config.data.directory).expanduser().absolute())
    if config.resume == "auto":
        folder = None
    elif config.resume:
        folder = _find_run(config.resume, root)
        overrides["resume"] = str(folder)
    else:
        overrides["run-name"] = config.run_name or make_run_name(config.recipe)
        folder = root / str(overrides["run-name"])
        if folder.exists():
            raise OptionError(
                f"The run folder '{folder}' exists already: choose another run-name, or set resume to it."
            )
    return Plan(RunConfig.from_flat(defaults | overrides), overrides, root, folder)


def choose_config(app: Path, recipe: str | None, settings: Iterable[str]) -> RunConfig:
    """Merge and check the options of a run that this machine does not start.

    Args:
        app: folder of the Flower app; its pyproject.toml holds the defaults.
        recipe: a name in the app's `recipes/`, or a TOML file.
        settings: `key=value` each, as given with `--set`.

    Raises:
        OptionError: if anything does not fit.
    """
    defaults = read_defaults(app)
    return RunConfig.from_flat(defaults | _merge(app, recipe, settings, defaults))


def read_defaults(app: Path) -> dict[str, OptionValue]:
    """Read the defaults of all options from the app's pyproject.toml.

    Raises:
        OptionError: if it holds none.
    """
    try:
        return default_options(app / "pyproject.toml")
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise OptionError(f"'{app / 'pyproject.toml'}' has no valid [tool.flwr.app.config]: {error}.") from None


def read_recipe(recipe: str, app: Path) -> dict[str, OptionValue]:
    """Read a recipe, flat or in tables; without an option `recipe`, the file's name becomes that option.

    Raises:
        OptionError: if there is no such file, or it is no TOML.
    """
    named = app / "recipes" / f"{recipe}.toml"
    path = named if named.is_file() else Path(recipe).expanduser()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows marks UTF-8 with three bytes
    except OSError:
        known = sorted(file.stem for file in (app / "recipes").glob("*.toml"))
        hint = did_you_mean(recipe, known)
        raise OptionError(
            f"No recipe '{recipe}': give a TOML file or one of {', '.join(known) or 'none in this app'}.{hint}"
        ) from None
    except UnicodeDecodeError:
        raise OptionError(f"The recipe '{path}' is not UTF-8 text. Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"The recipe '{path}' is not valid TOML: {error}.") from None
    return {"recipe": path.stem} | dict(_flatten(document))


def parse_settings(settings: Iterable[str], defaults: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Read `key=value` pairs: values as in TOML, bare words as text, and text where the option is text.

    Raises:
        OptionError: if a pair has no `=`.
    """
    chosen: dict[str, OptionValue] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not name:
            raise OptionError(f"--set takes key=value, got '{setting}'.")
        value = _parse_value(name, text)
        is_text = isinstance(defaults.get(name), str)
        chosen[name] = text if is_text and not isinstance(value, str) else value
    return chosen


def make_run_name(recipe: str) -> str:
    """Make a name that sorts by time and is taken by no other run: <time>-<recipe>-<4 hex digits>."""
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{recipe}-{secrets.token_hex(2)}"


def to_toml(options: Mapping[str, OptionValue]) -> str:
    """Write flat options as TOML: JSON's integers, booleans and quoted text are TOML's as well."""

    def write(value: OptionValue) -> str:
        return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)

    return "".join(f"{json.dumps(name)} = {write(value)}\n" for name, value in options.items())


def _merge(
    app: Path,
    recipe: str | None,
    settings: Iterable[str] | Mapping[str, OptionValue],
    defaults: Mapping[str, OptionValue],
) -> dict[str, OptionValue]:
    chosen = dict(settings) if isinstance(settings, Mapping) else parse_settings(settings, defaults)
    return (read_recipe(recipe, app) if recipe else {}) | chosen


def _parse_value(name: str, text: str) -> OptionValue:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    if isinstance(value, list):
        return join_values(name, value)
    return value if isinstance(value, bool | int | float | str) else text


def join_values(name: str, values: list[object]) -> str:
    """Write a list as comma-separated text: Flower's options know no lists."""
    if any(isinstance(value, bool) or not isinstance(value, int | float | str) for value in values):
        raise OptionError(f"Option '{name}' must be text or numbers, comma-separated, got a list of something else.")
    if any("," in str(value) for value in values):
        raise OptionError(f"Option '{name}' is comma-separated: no part of it may hold a comma, got {values}.")
    return ",".join(map(str, values))


def _flatten(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, OptionValue]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            yield f"{prefix}{key}", value
        elif isinstance(value, list):  # flwr run would refuse it, too
            text = join_values(f"{prefix}{key}", value)
            raise OptionError(f"Option '{prefix}{key}' must be comma-separated text, \"{text}\", got a list.")
        else:
            kind = type(value).__name__
            raise OptionError(f"Option '{prefix}{key}' must be a number, true, false or text, got a {kind}.")


def _check_enough_nodes(config: RunConfig, num_nodes: int) -> None:
    federation = config.federation
    wishes = {
        "min-nodes": federation.min_nodes,
        "nodes-per-round": federation.nodes_per_round,
        "min-replies": federation.min_replies,
    }
    for name, wish in wishes.items():
        if wish > num_nodes:
            raise OptionError(
                f"Option 'federation.{name}' must be at most the number of nodes, {num_nodes}, got {wish}: "
                f"pass --nodes {wish}, or --set federation.{name}={num_nodes}."
            )


def _find_run(resume: str, root: Path) -> Path:
    folder = find_named(Path(resume), root)
    if not folder.is_dir():
        hint = similar_run(Path(resume), root)
        raise OptionError(
            f"Option 'resume' must be a run folder, or auto: there is no '{resume}', nor one in '{root}'.{hint}"
        )
    return folder
