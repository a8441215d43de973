"""Checks a hospital's permissions: tasks and plug-ins."""

from collections.abc import Iterator
from contextlib import contextmanager

from fl_app.errors import FlAppError
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import Named
from fl_app.plugins import AT_NODES, BUILT_IN, allow_only, is_path


class NotAllowedError(FlAppError):
    """The hospital does not allow the server's request; the text may leave the node, except the state's folder."""


def check_task(node: NodeConfig, task: str) -> None:
    """Reject a message about a task that the hospital does not allow; an empty `task` passes.

    Raises:
        NotAllowedError: the task is not one of the node option `tasks-allowed`.
    """
    if task and node.tasks_allowed and task not in node.tasks_allowed:
        raise NotAllowedError(
            f"This node does not take part in the task '{task}': its option 'tasks-allowed' names "
            f"{', '.join(node.tasks_allowed)}."
        )


def not_allowed(node: NodeConfig, config: RunConfig) -> list[Named]:
    """Return the names in a run's options that this node must not import.

    A simulated node may import everything that its machine has. At a hospital a name must be built in or listed in the
    node option `plugins-allowed`. Plug-ins that only the server imports are not checked, unless they are paths.
    """
    if node.partition_id is not None:
        return []
    return [
        one
        for one in config.named()
        if one.name not in (*BUILT_IN[one.kind], *node.plugins_allowed) and (one.kind in AT_NODES or is_path(one.name))
    ]


@contextmanager
def limited_plugins(node: NodeConfig, config: RunConfig) -> Iterator[None]:
    """Reject a run that names a plug-in this node must not import; allow no other plug-in within the block.

    Raises:
        NotAllowedError: an option names a plug-in that is not one of the node option `plugins-allowed`.
    """
    for one in not_allowed(node, config):
        raise NotAllowedError(
            f"Option '{one.option}' is '{one.name}', which this node does not import: it is not built in, and the "
            "node's option 'plugins-allowed' does not name it. Nothing was imported."
        )
    if node.partition_id is not None:
        yield
        return
    with allow_only(node.plugins_allowed, "this node's option 'plugins-allowed' does not name it."):
        yield
