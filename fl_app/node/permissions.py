"""Checks a hospital's permissions: the study's options, tasks, plug-ins and rounds a day."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fl_app.errors import FlAppError, OptionError
from fl_app.files import make_private
from fl_app.node.images import site_name, state_base
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import Named, OptionValue
from fl_app.options.study import differences, read_study
from fl_app.plugins import AT_NODES, BUILT_IN, allow_only, is_path

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
    differing = list(differences(config.to_flat(), study.to_flat()))
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


def count_round(node: NodeConfig, run_folder: str) -> None:
    """Count a training message against the node option `max-rounds-per-day`, before the training.

    The count is kept in a file, a line for each message of the day (UTC), so that it outlives a process that dies in
    its round. If the count cannot be kept, no message is allowed.

    Args:
        node: the node's options; without a limit nothing is read or written.
        run_folder: the server's; used in a simulation only.

    Raises:
        NotAllowedError: the limit of the day is reached, or the count cannot be kept.
    """
    if node.max_rounds_per_day == 0:
        return
    path = state_base(node, run_folder) / f"rounds@{site_name(node)}"  # no run's name has an @
    today = datetime.now(UTC).date().isoformat()
    try:
        make_private(path.parent)
        with path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            days = file.read().split()
            if days.count(today) >= node.max_rounds_per_day:
                raise NotAllowedError(
                    f"This node has trained {node.max_rounds_per_day} times today, as often as its option "
                    "'max-rounds-per-day' allows. It goes on after midnight UTC."
                )
            if today not in days:
                file.truncate(0)
            file.write(f"{today}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise NotAllowedError(
            f"{path} cannot be read or written ({error}), so 'max-rounds-per-day' cannot be checked. Make the file "
            "readable and writable.",
            public="this node cannot count the rounds of the day, and so takes part in none",
        ) from error
