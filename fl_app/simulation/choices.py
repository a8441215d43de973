"""The options of a run: defaults, overridden by a recipe, overridden by `--set`; and the checks before it starts."""

import json
import os
import secrets
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fl_app.errors import OptionError, RunFolderError
from fl_app.options.app_files import join_values, read_defaults
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.runs.overview import find_named, runs_folder, similar_run
from fl_app.runs.run_json import new_run_name
from fl_app.simulation.app import read_recipe
from fl_app.simulation.claim import check_free, is_free

Options = Mapping[str, OptionValue]


@dataclass(frozen=True)
class Plan:
    """A checked choice of options.

    Attributes:
        config: every option.
        overrides: the options that differ from the app's defaults, flat and dotted, for `flwr run --run-config`.
        output: where run folders are made, absolute.
        folder: the folder of this run, absolute.
        note: what the user should know of the choice; may be empty.
    """

    config: RunConfig
    overrides: Mapping[str, OptionValue]
    output: Path
    folder: Path
    note: str = ""


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
        output: where run folders are made; None: the option `output-dir`.
        num_nodes: how many nodes will be simulated.

    Raises:
        OptionError: an option is wrong, or options do not fit together.
        RunFolderError: a run is going on in the folder.
    """
    defaults = read_defaults(app)
    overrides = merge(app, recipe, settings, defaults)
    config = RunConfig.from_flat(defaults | overrides)
    _check_enough_nodes(config, num_nodes)

    root = runs_folder(output or config.output_dir).absolute()
    overrides["output-dir"] = str(root)
    if config.federation.sites:
        overrides["federation.sites"] = ""  # ids of a study's nodes, and simulated nodes get new ones
    if config.data.directory:
        overrides["data.directory"] = str(Path(config.data.directory).expanduser().absolute())
    folder, note = None, ""
    if config.resume == "auto":
        folder = _find_to_resume(root, RunConfig.from_flat(defaults | overrides))
        note = "" if folder else f"resume=auto found nothing to resume in {root}: a new run begins."
        overrides["resume"] = str(folder or "")
    elif config.resume:
        folder = find_named(Path(config.resume), root)
        if not folder.is_dir():
            hint = similar_run(Path(config.resume), root)
            raise OptionError(
                f"Option 'resume' must be a run folder, or auto: there is no '{config.resume}', nor one in '{root}'."
                f"{hint}"
            )
        overrides["resume"] = str(folder)
    if folder is None:
        overrides["run-name"] = config.run_name or new_run_name(config.recipe, secrets.token_hex(2))
        folder = root / str(overrides["run-name"])
    check_free(folder, is_new=not overrides.get("resume"))
    return Plan(RunConfig.from_flat(defaults | overrides), overrides, root, folder, note)


def _find_to_resume(runs: Path, config: RunConfig) -> Path | None:
    """Return the newest unfinished run of the same options that nobody goes on with."""
    from fl_app.runs.opening import find_resumable

    return next((found.path for found in find_resumable(runs, config) if is_free(found.path)), None)


def choose_config(
    app: Path, recipe: str | None, settings: Iterable[str], read: Callable[[Options], RunConfig] = RunConfig.from_flat
) -> RunConfig:
    """Merge and check the options of a run that this machine does not start.

    Args:
        app: folder of the Flower app; its pyproject.toml holds the defaults.
        recipe: a name in the app's `recipes/`, or a TOML file.
        settings: `key=value` each, as given with `--set`.
        read: checks the options; `RunConfig.received` leaves out the names of plug-ins.

    Raises:
        OptionError: an option is wrong, or options do not fit together.
    """
    defaults = read_defaults(app)
    return read(defaults | merge(app, recipe, settings, defaults))


def parse_settings(settings: Iterable[str], defaults: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Read `key=value` pairs: values as in TOML, or text if the value is no TOML or the option is text.

    Raises:
        OptionError: a pair has no `=`.
    """
    chosen: dict[str, OptionValue] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not name:
            raise OptionError(f"--set takes key=value, got '{setting}'.")
        value = _read_value(text)
        chosen[name] = join_values(name, value) if isinstance(value, list) else _as_option(name, value, text, defaults)
    return chosen


def split_values(varied: str, defaults: Mapping[str, OptionValue]) -> tuple[str, list[OptionValue]]:
    """Read `key=a,b,c`: each value as `parse_settings` reads one. `key=["a,b","c"]` has values with commas.

    Raises:
        OptionError: there is no `=`, or no value.
    """
    name, equals, text = (part.strip() for part in varied.partition("="))
    if not equals or not name or not text:
        raise OptionError(f"--vary takes key=a,b,c, got '{varied}'.")
    values = _read_value(text)
    if isinstance(values, list):
        return name, [_as_option(name, value, str(value), defaults) for value in values]
    return name, [_as_option(name, _read_value(part), part, defaults) for part in map(str.strip, text.split(","))]


def _read_value(text: str) -> object:
    """Return a value as TOML has it; the text itself if it is no TOML."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _as_option(name: str, value: object, text: str, defaults: Mapping[str, OptionValue]) -> OptionValue:
    """Return a number or a truth value as such, unless the option is text; everything else as text."""
    if isinstance(value, bool | int | float) and not isinstance(defaults.get(name), str):
        return value
    return value if isinstance(value, str) else text


def to_toml(options: Mapping[str, OptionValue]) -> str:
    """Write flat options as TOML: JSON's integers, booleans and quoted text are TOML's as well."""

    def write(value: OptionValue) -> str:
        return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)

    return "".join(f"{json.dumps(name)} = {write(value)}\n" for name, value in options.items())


def merge(
    app: Path,
    recipe: str | None,
    settings: Iterable[str] | Mapping[str, OptionValue],
    defaults: Mapping[str, OptionValue],
) -> dict[str, OptionValue]:
    """Return the options that a recipe and settings choose, by dotted name; settings override the recipe."""
    chosen = dict(settings) if isinstance(settings, Mapping) else parse_settings(settings, defaults)
    return (read_recipe(recipe, app) if recipe else {}) | chosen


def _check_enough_nodes(config: RunConfig, num_nodes: int) -> None:
    if num_nodes < 1:
        raise OptionError(f"A run must have at least 1 node, got {num_nodes}.")
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
                f"simulate {wish} nodes, or lower the option."
            )


def check_before_start(config: RunConfig, num_nodes: int, output: Path, resumed: Path | None) -> None:
    """Read the images once, split them, build the networks: what would fail at every node fails here at once.

    Args:
        config: of the run.
        num_nodes: simulated nodes.
        output: where run folders are made.
        resumed: the folder to resume, if one is named.

    Raises:
        FlAppError: with the whole text, names of files included: the images are the user's own.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        problem = None if os.access(output, os.W_OK | os.X_OK) else "you may not write there"
    except OSError as error:
        problem = error.strerror
    if problem is not None:
        raise RunFolderError(f"No run folder can be made in {output}: {problem}. Choose another folder.")
    from fl_app.data.sources import dataset_info, load_parts
    from fl_app.node.images import share_out, wanted_parts
    from fl_app.quality.features import check_network_file
    from fl_app.runs.folder import RunFolder
    from fl_app.runs.opening import check_resumable
    from fl_app.runs.tracking import check_tracking
    from fl_app.tasks import check_tasks

    if resumed is not None:
        check_resumable(RunFolder(resumed), config)
    config.import_plugins()
    check_tracking(config.tracking)
    check_network_file(config)
    if config.partition.scheme == "sites":
        _check_sites(config, num_nodes)
        return
    info = dataset_info(config.data)
    check_tasks(config, info)
    parts = load_parts(config.data, config.seed, wanted_parts(config))
    share_out(parts, num_nodes, config.partition, config.seed)


def _check_sites(config: RunConfig, num_nodes: int) -> None:
    """Read the images of every site, each as its own node will."""
    from fl_app.node.images import as_simulated, hospital_info, load_local
    from fl_app.tasks import check_tasks

    for number in range(num_nodes):
        node = as_simulated(config, NodeConfig.from_flat({"partition-id": number, "num-partitions": num_nodes}))
        info = hospital_info(config, node)
        check_tasks(config, info)
        load_local(config, node)
