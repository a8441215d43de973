"""Keeps the report of a run fresh while the run goes on, at little cost, and never harms the run."""

import logging
import time
from pathlib import Path

from fl_app.runs.report.page import write_report

log = logging.getLogger(__name__)

_MOST_SHARE = 0.02  # of a run's time


class LiveReport:
    """Writes report.html after rounds and at the end of a run.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next = 0.0
        self._has_failed = False

    def refresh(self) -> None:
        """Write the report, unless this would take more than a fiftieth of the time since the last one."""
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Write the report; an error is logged once, and ends nothing."""
        started = time.monotonic()
        try:
            write_report(self._folder)
        except Exception as error:  # a report is never worth a run
            if not self._has_failed:
                log.warning("The report could not be written: %s: %s", type(error).__name__, error)
            self._has_failed = True
        ended = time.monotonic()
        self._next = ended + (ended - started) / _MOST_SHARE
