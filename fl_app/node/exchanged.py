"""Answers that a node gives once, such as the sums of an exchange of prototypes: measured once, the same ever after.

Two answers about the same images under different weights tell more than either. So a hospital that is asked again for
the same run, task and round sends what it sent before, whatever the weights are.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fl_app.errors import RunFolderError
from fl_app.files import replacing
from fl_app.node.permissions import NotAllowedError
from fl_app.node.state import RunFile

log = logging.getLogger(__name__)

Sums = dict[str, NDArray[np.float64]]


def answer_once(folder: Path, what: str, round_number: int, measure: Callable[[], Sums]) -> Sums:
    """Return the sums that were measured when they were asked for the first time; these may be those of now.

    Args:
        folder: of the task's state at the node.
        what: name of the sums.
        round_number: of the question.
        measure: measures them; sums without a name are not kept.

    Raises:
        NotAllowedError: they cannot be kept, so that the node could not send the same ones again.
    """
    path = RunFile.ANSWER.path(folder, f"{what}-{round_number:04d}")
    try:
        sums = load(path.read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError) as error:
        log.warning("%s is damaged (%s): these sums are measured anew", path, error)
    else:
        log.info("The server asks again for the %s of round %d, and gets the same sums", what, round_number)
        return sums
    sums = measure()
    if sums:
        try:
            with replacing(path, mode=0o600) as temporary:
                temporary.write_bytes(save({key: np.ascontiguousarray(one) for key, one in sums.items()}))
        except RunFolderError as error:
            raise NotAllowedError(
                f"{error} So these sums, which may leave the node once, do not leave it. Make room in 'state-dir'.",
                public="this node cannot note which sums leave it, and so sends none: its 'state-dir' must be writable",
            ) from error
    return sums
