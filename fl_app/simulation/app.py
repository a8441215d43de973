"""Where the files of the Flower app are: pyproject.toml, server_app.py, client_app.py and the recipes."""

import shutil
from importlib.resources import files
from pathlib import Path

from fl_app.errors import OptionError, RunFolderError

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
        RunFolderError: the folder is there already, or cannot be written.
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
            f"The app cannot be written to {folder}: {error.strerror or error}. Name a folder that is not there yet."
        ) from None


def _is_app(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("pyproject.toml", "server_app.py"))
