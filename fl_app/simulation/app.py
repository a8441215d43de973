"""Which folder is the Flower app, its recipes, and its files in a new folder or in Flower's bundle."""

import hashlib
import shutil
from pathlib import Path

from fl_app.errors import OptionError, RunFolderError, did_you_mean
from fl_app.options.app_files import PACKAGE, PACKAGED, is_app, own_app, read_options
from fl_app.options.sections import OptionValue

_BUNDLED = ("pyproject.toml", "server_app.py", "client_app.py", "LICENSE")


def find_app(named: Path | None = None) -> Path:
    """Return the folder of the Flower app: the named one, else the current one if it is an app, else fl-app's own.

    Raises:
        OptionError: the folder is no Flower app.
    """
    folder = named.expanduser() if named else Path.cwd() if is_app(Path.cwd()) else own_app()
    if not is_app(folder):
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
        shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=left_out)
    except OSError as error:
        raise RunFolderError(
            f"The app cannot be written to {folder}: {error.strerror or error}. Name a folder that does not exist yet."
        ) from None


def code_hash(app: Path) -> str:
    """Return the SHA-256, in hexadecimal, of the bundle that `flwr run` makes of an app.

    Raises:
        OptionError: Flower cannot bundle the folder.
    """
    from fl_app.flower import build_bundle

    try:
        bundle = build_bundle(_own_files(app) if app.resolve() == own_app().resolve() else app)
    except (OSError, ValueError) as error:
        raise OptionError(f"Flower makes no bundle of '{app}': {error}") from None
    return hashlib.sha256(bundle).hexdigest()


def _own_files(app: Path) -> dict[str, Path]:
    """Return the files of fl-app's own bundle by place: Flower's search took 14 s in a checkout with a .venv."""
    names = [name for name in (*_BUNDLED, ".gitignore") if (app / name).is_file()]
    code = (path for path in PACKAGE.rglob("*.py") if PACKAGED not in path.parents)
    return {name: app / name for name in names} | {
        f"{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}": path for path in code
    }


def is_recipe(recipe: str, app: Path) -> bool:
    """Tell whether a name leads to a recipe's file, in the app or elsewhere."""
    return (app / "recipes" / f"{recipe}.toml").is_file() or Path(recipe).expanduser().is_file()


def read_recipe(recipe: str, app: Path) -> dict[str, OptionValue]:
    """Read a recipe, flat or in tables; without an option `recipe`, the file's name becomes that option.

    Raises:
        OptionError: there is no such file, or it is not TOML.
    """
    named = app / "recipes" / f"{recipe}.toml"
    path = named if named.is_file() else Path(recipe).expanduser()
    try:
        return {"recipe": path.stem} | read_options(path, "recipe")
    except OSError:
        known = sorted(file.stem for file in (app / "recipes").glob("*.toml"))
        hint = did_you_mean(recipe, known)
        found = f"There is no file '{recipe}'" if recipe.endswith(".toml") else f"No recipe '{recipe}'"
        raise OptionError(
            f"{found}: give a TOML file or one of {', '.join(known) or 'none in this app'}.{hint}"
        ) from None
