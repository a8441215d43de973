"""The files of the Flower app: where they are, and the defaults and recipes in them."""

import shutil
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from fl_app.errors import OptionError, RunFolderError, did_you_mean
from fl_app.options.run import default_options
from fl_app.options.sections import OptionValue

_PACKAGE = Path(str(files("fl_app"))).resolve()
PACKAGED = _PACKAGE / "app"  # `setup.py` puts the files there when it builds the package
_BUNDLED = ("pyproject.toml", "server_app.py", "client_app.py", "LICENSE")


def own_app() -> Path:
    """Return the folder with the app's files: the checkout if there is one, else the installed package's copy."""
    checkout = _PACKAGE.parent
    return checkout if _is_app(checkout) else PACKAGED


def find_app(named: Path | None = None) -> Path:
    """Return the folder of the Flower app: the named one, else the current one if it is an app, else fl-app's own.

    Raises:
        OptionError: the folder is no Flower app.
    """
    folder = named.expanduser() if named else Path.cwd() if _is_app(Path.cwd()) else own_app()
    if not _is_app(folder):
        raise OptionError(f"No Flower app in '{folder}': --app needs the folder with pyproject.toml and server_app.py.")
    return folder.resolve()


def write_app(folder: Path) -> None:
    """Write fl-app's own app with its code into a new folder, as `flwr run <folder>` needs it.

    Raises:
        RunFolderError: the folder exists already, or cannot be written.
    """
    app = own_app()
    try:
        folder.mkdir(parents=True)
        for name in _BUNDLED:
            shutil.copyfile(app / name, folder / name)
        shutil.copytree(app / "recipes", folder / "recipes")
        left_out = shutil.ignore_patterns("__pycache__", PACKAGED.name)
        shutil.copytree(_PACKAGE, folder / _PACKAGE.name, ignore=left_out)
    except OSError as error:
        raise RunFolderError(
            f"The app cannot be written to {folder}: {error.strerror or error}. Name a folder that does not exist yet."
        ) from None


def read_defaults(app: Path) -> dict[str, OptionValue]:
    """Read the defaults of all options from the app's pyproject.toml.

    Raises:
        OptionError: it holds none.
    """
    try:
        return default_options(app / "pyproject.toml")
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise OptionError(f"'{app / 'pyproject.toml'}' has no valid [tool.flwr.app.config]: {error}.") from None


def read_recipe(recipe: str, app: Path) -> dict[str, OptionValue]:
    """Read a recipe, flat or in tables; without an option `recipe`, the file's name becomes that option.

    Raises:
        OptionError: there is no such file, or it is not TOML.
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


def _is_app(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("pyproject.toml", "server_app.py"))
