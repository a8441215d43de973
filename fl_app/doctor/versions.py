"""The versions of Flower: installed here, wanted by fl-app, and running at the SuperLink."""

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from fl_app.doctor.finding import Finding


def check_flower_here() -> Finding:
    """Compare the installed Flower with the one that fl-app was written for."""
    name = "flower here"
    try:
        installed = version("flwr")
        wanted = next(one for one in map(Requirement, requires("fl-app") or ()) if one.name == "flwr")
    except PackageNotFoundError as error:
        return Finding(name, "not ready", f"The package {error.name} is not installed: install fl-app anew.")
    if not wanted.specifier.contains(installed, prereleases=True):
        text = f"flwr {installed} is installed, fl-app needs flwr {wanted.specifier}: install fl-app anew."
        return Finding(name, "not ready", text)
    return Finding(name, "ready", f"flwr {installed}, as fl-app needs it.")


def check_flower_there(running: str | None) -> Finding:
    """Compare the installed Flower with the SuperLink's: Flower refuses another major or minor version.

    Args:
        running: the SuperLink's version; None where it did not say.
    """
    name = "flower there"
    if running is None:
        return Finding(name, "not checked", "The SuperLink did not say which version of Flower it runs.")
    installed = version("flwr")
    if _release(running) != _release(installed):
        text = f"The SuperLink runs flwr {running}, this machine has {installed}: install the same version on both."
        return Finding(name, "not ready", text)
    return Finding(name, "ready", f"The SuperLink runs flwr {running}, this machine has {installed}.")


def _release(text: str) -> tuple[int, ...]:
    try:
        return Version(text).release[:2]
    except InvalidVersion:
        return ()
