"""Checks a hospital's permissions: the study's options, tasks and plug-ins."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_app.errors import FlAppError, OptionError
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import Named, OptionValue
from fl_app.options.study import differences, read_study
from fl_app.plugins import BUILT_IN, allow_only, is_path

_LONGEST_VALUE = 24  # characters of an option's value in an answer, whose length is limited


class NotAllowedError(FlAppError):
    """The hospital does not allow the server's request; the text may leave the node, except the state's folder."""


def check_study(node: NodeConfig, config: RunConfig) -> None:
    """Reject a run whose options are not those that the hospital agreed to; without a study every run passes.

    Raises:
        NotAllowedError: an option differs, or the study's file cannot be read.
    """
    if not node.study:
        return
    try:
        study = read_study(Path(node.study))
    except OptionError as error:
        raise NotAllowedError(
            f"{error} Until then this node takes part in no run.",
            public="this node cannot read its study's file, and so takes part in no run; its log says why",
        ) from error
    differing = list(differences(config.to_flat(), study))
    if differing:
        first, others = differing[0], len(differing) - 1
        more = f" (and {others} more)" if others else ""
        raise NotAllowedError(
            f"this hospital agreed to other options: '{first.option}' is {_written(first.found)}, agreed was "
            f"{_written(first.agreed)}{more}. Run the agreed options, or have the hospital agree to these"
        )


def _written(value: OptionValue) -> str:
    """Write an option's value, cut so that the whole text reaches the server."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


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
    if node.is_simulated:
        return []
    at_nodes = config.named_at_nodes()
    return [
        one
        for one in config.named()
        if one.name not in (*BUILT_IN[one.kind], *node.plugins_allowed) and (one in at_nodes or is_path(one.name))
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
    if node.is_simulated:
        yield
        return
    with allow_only(node.plugins_allowed, "this node's option 'plugins-allowed' does not name it."):
        yield
