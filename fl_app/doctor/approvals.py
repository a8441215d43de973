"""What the hospital agrees to: the code that runs execute, the options that they have, the weights that they send."""

from collections.abc import Callable
from pathlib import Path

from fl_app.doctor.finding import Finding, plural
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.study import differences, read_study


def check_code(node: NodeConfig, installed_hash: Callable[[], str]) -> Finding:
    """Tell which code runs may execute at this node; a warning if it is any code.

    Args:
        node: the node's options.
        installed_hash: returns the SHA-256 of the installed fl-app's own code.
    """
    name = "approved code"
    if not node.approved_code:
        return Finding(
            name,
            "warning",
            "Whoever reaches the SuperLink can have this node execute any code. Give --approved-code with the SHA-256 "
            "that the coordinator tells, as `fl-app code-hash` prints it.",
        )
    installed = installed_hash()
    kinds = "bundle" if len(node.approved_code) == 1 else "bundles"
    approved = f"The node executes {len(node.approved_code)} approved {kinds} of code only"
    if installed in node.approved_code:
        return Finding(name, "ready", f"{approved}, the installed fl-app's among them.")
    return Finding(
        name,
        "warning",
        f"{approved}, and the installed fl-app's is not among them: its SHA-256 is {installed}. If the coordinator "
        "uses this version, too, compare what `fl-app code-hash` prints at both.",
    )


def check_study(node: NodeConfig, config: RunConfig, is_given: bool) -> Finding:
    """Check the file of the agreed options, and compare it with the run that doctor was given.

    Args:
        node: the node's options.
        config: of the run.
        is_given: whether that run was named; else doctor made up its options.

    Raises:
        OptionError: the file cannot be read, or an option in it is wrong.
    """
    name = "study"
    if not node.study:
        return Finding(name, "not checked", "No --study is given: the node takes part in runs with any options.")
    study = read_study(Path(node.study))
    differing = list(differences(config.to_flat(), study)) if is_given else []
    if differing:
        first = differing[0]
        return Finding(
            name,
            "not ready",
            f"{plural(len(differing), 'option')} of this run will be refused: '{first.option}' is {first.found!r}, the "
            f"study says {first.agreed!r}. Ask the coordinator which is right.",
        )
    if not node.approved_code:
        text = "The file is right, but a run that brings other code is not held to it: give --approved-code, too."
        return Finding(name, "warning", text)
    return Finding(name, "ready", "The node takes part only in runs with the options of this file.")


def check_weights(node: NodeConfig) -> Finding:
    """Tell whether the node compares received weights with those of the study and with earlier ones."""
    if not node.check_weights:
        return Finding(
            "weights",
            "warning",
            "The node takes any weights, and so tells more of single images: 'check-weights' is false. Leave it true, "
            "unless honest weights are refused.",
        )
    return Finding(
        "weights",
        "ready",
        "The node takes the weights that the run's seed gives, then only such as are not far from earlier ones.",
    )
