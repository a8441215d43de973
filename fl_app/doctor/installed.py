"""Checks what is installed at the hospital: Flower, the study's plug-ins, and the node's private key."""

import os
import stat
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from fl_app.certificates import is_node_key
from fl_app.doctor.finding import Finding
from fl_app.errors import did_you_mean
from fl_app.node.permissions import not_allowed
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.plugins import AT_NODES, BUILT_IN, installed, is_path, providers


def check_flower_here() -> Finding:
    """Compare the installed version of Flower with the one that fl-app needs."""
    name = "flower here"
    try:
        installed = version("flwr")
        wanted = next(one for one in map(Requirement, requires("fl-app") or ()) if one.name == "flwr")
    except PackageNotFoundError as error:
        return Finding(name, "not ready", f"The package {error.name} is not installed: install fl-app again.")
    if not wanted.specifier.contains(installed, prereleases=True):
        text = f"flwr {installed} is installed, fl-app needs flwr {wanted.specifier}: install fl-app again."
        return Finding(name, "not ready", text)
    return Finding(name, "ready", f"flwr {installed} is installed, which fits.")


def check_flower_there(running: str | None) -> Finding:
    """Compare the installed version of Flower with the SuperLink's, which rejects other major and minor versions.

    Args:
        running: the SuperLink's version; None if it did not say.
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


def check_plugins(config: RunConfig, node: NodeConfig) -> Finding:
    """Check that the plug-ins which a study needs at this node are installed and allowed, and no dangerous ones are."""
    kinds = (*AT_NODES, "samplers")
    offered = {kind: installed(kind) for kind in kinds}
    needed = [one for one in config.named_at_nodes() if one.name not in BUILT_IN[one.kind]]
    refused = not_allowed(node, config)
    problems = []
    for one in refused:
        text = f"'{one.option}' is '{one.name}', which this node does not import:"
        if is_path(one.name):
            problems.append(
                f"{text} it is a path, which only simulations accept. Ask the coordinator for a plug-in with a name."
            )
            continue
        install = "" if one.name in offered.get(one.kind, ()) else "install its package, and "
        problems.append(f"{text} {install}name it in the node option 'plugins-allowed', if you trust it.")
    problems += [
        f"'{one.option}' is '{one.name}', which the node allows but which is not installed: install its package."
        for one in needed
        if one not in refused and not is_path(one.name) and one.name not in offered[one.kind]
    ]
    needed_names = {one.name for one in needed}
    unclear = {
        name: packages
        for name in sorted(needed_names | set(node.plugins_allowed))
        for kind in kinds
        if name not in BUILT_IN[kind] and len(packages := providers(kind, name)) > 1
    }
    problems += [_unclear(name, packages) for name, packages in unclear.items() if name in needed_names]
    warnings = [_unclear(name, packages) for name, packages in unclear.items() if name not in needed_names]
    for name in node.plugins_allowed:
        if is_path(name):
            warnings.append(f"'plugins-allowed' names the path '{name}', which a run could use to import any program.")
        elif name not in needed_names and not any(name in (*BUILT_IN[kind], *offered[kind]) for kind in kinds):
            known = [one for points in offered.values() for one in points]
            warnings.append(f"'plugins-allowed' names '{name}', which is not installed.{did_you_mean(name, known)}")
    names = sorted({name for points in offered.values() for name in points})
    here = f"Installed here: {', '.join(names) or 'none'}. Allowed: {', '.join(node.plugins_allowed) or 'none'}."
    if problems:
        return Finding("plug-ins", "not ready", " ".join([*problems, here]))
    if warnings:
        return Finding("plug-ins", "warning", " ".join([*warnings, here]))
    wanted = ", ".join(dict.fromkeys(one.name for one in needed))
    return Finding("plug-ins", "ready", f"The run needs {wanted or 'none'} at this node. {here}")


def _unclear(name: str, packages: Sequence[str]) -> str:
    return f"Several installed packages offer '{name}': {', '.join(packages)}. Uninstall all but one."


def check_key(file: Path) -> Finding:
    """Check that only its owner can read the node's private key, and that Flower accepts it."""
    path = file.expanduser()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except OSError as error:
        problem = os.strerror(error.errno) if error.errno else type(error).__name__
        return Finding("key", "not ready", f"The node's private key cannot be read: {problem}.")
    if not is_node_key(content):
        return Finding(
            "key",
            "not ready",
            "This is no private key that Flower takes. Expected an elliptic-curve key in OpenSSH's form, without a "
            "passphrase, as `fl-app keys` makes it. The file that ends in .pub is the public key.",
        )
    if mode & 0o077:
        return Finding(
            "key", "not ready", f"Other users can read the node's private key (mode {mode:04o}): run chmod 600 on it."
        )
    return Finding("key", "ready", f"Only its owner can read the node's private key (mode {mode:04o}).")
