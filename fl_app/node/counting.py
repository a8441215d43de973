"""Counts the messages of a day that read a hospital's images, against the node's own limits."""

import fcntl
import os
from datetime import UTC, datetime, timedelta

from fl_app.files import make_private
from fl_app.messages.records import TRAIN
from fl_app.node.permissions import NotAllowedError
from fl_app.node.state import site_name
from fl_app.options.node import NodeConfig

_KEPT_DAYS = 1000  # far more than anybody sets a clock back


def count_message(node: NodeConfig, message_type: str) -> None:
    """Count a message against the limit of the day (UTC), before its images are read.

    Training messages count against `max-rounds-per-day`, all others against `max-queries-per-day`. Each day has a file
    that is one byte longer with every message: so the count outlives a process that dies, no file is ever rewritten,
    and a clock that is set to another day and back finds each day's count as it was. If the count cannot be kept, no
    message is allowed.

    Args:
        node: the node's options; a simulated node counts nothing, nor does one without the limit.
        message_type: of the message; every type reads images.

    Raises:
        NotAllowedError: the limit of the day is reached, or the count cannot be kept.
    """
    is_training = message_type == TRAIN
    limit = node.max_rounds_per_day if is_training else node.max_queries_per_day
    if node.is_simulated or limit == 0:
        return
    option, kind = ("max-rounds-per-day", "rounds") if is_training else ("max-queries-per-day", "queries")
    today = datetime.now(UTC).date()
    folder = node.state_folder / f"counts@{site_name(node)}"  # no run's name has an @
    path = folder / f"{today.isoformat()}.{kind}"
    try:
        make_private(node.state_folder)
        make_private(folder)
        if not path.exists():
            for old in sorted(folder.glob(f"*.{kind}"))[:-_KEPT_DAYS]:
                old.unlink(missing_ok=True)
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            found = os.fstat(file.fileno()).st_size
            if found >= limit:
                did = "answered {} messages that read its images today, beside training"
                if is_training:
                    did = "trained {} times today"
                raise NotAllowedError(
                    f"This node has {did.format(found)}, and its option '{option}' allows {limit}. It "
                    f"goes on at midnight UTC, when {today + timedelta(days=1)} begins."
                )
            file.write(b"\n")
    except OSError as error:
        raise NotAllowedError(
            f"{path} cannot be read or written ({error}), so '{option}' cannot be checked. Make the file readable and "
            "writable.",
            public="this node cannot count the messages of the day, and so answers none",
        ) from error
