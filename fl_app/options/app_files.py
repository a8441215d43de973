"""The files of the Flower app: where they are, its defaults, and other files of run options."""

import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from fl_app.errors import OptionError
from fl_app.options.run import default_options
from fl_app.options.sections import OptionValue

PACKAGE = Path(str(files("fl_app"))).resolve()
PACKAGED = PACKAGE / "app"  # `setup.py` puts the files there when it builds the package


def is_app(folder: Path) -> bool:
    """Tell whether a folder holds a Flower app."""
    return all((folder / name).is_file() for name in ("pyproject.toml", "server_app.py"))


def own_app() -> Path:
    """Return the folder with the app's files: the checkout or bundle if there is one, else the package's copy."""
    checkout = PACKAGE.parent
    return checkout if is_app(checkout) else PACKAGED


def read_defaults(app: Path) -> dict[str, OptionValue]:
    """Read the defaults of all options from the app's pyproject.toml.

    Raises:
        OptionError: it holds none.
    """
    try:
        return default_options(app / "pyproject.toml")
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise OptionError(f"'{app / 'pyproject.toml'}' has no valid [tool.flwr.app.config]: {error}.") from None


def read_options(path: Path, kind: str) -> dict[str, OptionValue]:
    """Read a TOML file of run options, flat or in tables, by dotted name.

    Args:
        path: the file.
        kind: `recipe` or `study`, for errors.

    Raises:
        OSError: the file cannot be read.
        OptionError: it is not UTF-8 or not TOML, states no option, or holds something that no option can be.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows marks UTF-8 with three bytes
    except UnicodeDecodeError:
        text = "is not UTF-8 text. Save it as UTF-8."
        raise OptionError(f"The {kind} '{path}' {text}", public=f"the {kind}'s file {text}") from None
    except tomllib.TOMLDecodeError as error:
        text = f"is not valid TOML: {error}."
        raise OptionError(f"The {kind} '{path}' {text}", public=f"the {kind}'s file {text}") from None
    options = dict(_flatten(document))
    if not options:  # a download that was cut off would mean: all defaults
        text = "states no option. Expected lines such as seed = 1; get the whole file again."
        raise OptionError(f"The {kind} '{path}' {text}", public=f"the {kind}'s file {text}")
    return options


def join_values(name: str, values: list[object]) -> str:
    """Return a list as comma-separated text, since Flower's options cannot be lists."""
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
