"""What a study's options name that is not built in: is it installed here, and does the node allow it?"""

from fl_app.doctor.finding import Finding
from fl_app.node.permissions import not_allowed
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import Named
from fl_app.plugins import AT_NODES, BUILT_IN, installed, is_path


def check_plugins(config: RunConfig, node: NodeConfig) -> Finding:
    """Tell which plug-ins a study needs at this node, and which ones are installed and allowed here."""
    offered = {kind: installed(kind) for kind in AT_NODES}
    needed = [one for one in config.named() if one.kind in AT_NODES and one.name not in BUILT_IN[one.kind]]
    refused = not_allowed(node, config)
    problems = [_problem(one, one.name in offered.get(one.kind, ())) for one in refused]
    problems += [
        f"'{one.option}' is '{one.name}', which the node allows and has not: install its package."
        for one in needed
        if one not in refused and not is_path(one.name) and one.name not in offered[one.kind]
    ]
    names = sorted({name for points in offered.values() for name in points})
    here = f"Installed here: {', '.join(names) or 'none'}. Allowed: {', '.join(node.plugins_allowed) or 'none'}."
    if problems:
        return Finding("plug-ins", "not ready", " ".join([*problems, here]))
    wanted = ", ".join(dict.fromkeys(one.name for one in needed))
    return Finding("plug-ins", "ready", f"The run needs {wanted or 'none'} at this node. {here}")


def _problem(one: Named, is_installed: bool) -> str:
    """Say what to do about a name that the node does not import."""
    text = f"'{one.option}' is '{one.name}', which this node does not import:"
    if is_path(one.name):
        return f"{text} it is a path, which is for simulations. Ask the coordinator for a plug-in with a name."
    install = "" if is_installed else "install its package, and "
    return f"{text} {install}name it in the node option 'plugins-allowed', if you trust it."
