"""A federation in one process, for tests: see `benchmarks.local_grid`."""

from benchmarks.local_grid import LocalGrid, Meddle, run_federation

__all__ = ["Clock", "LocalGrid", "Meddle", "run_federation"]


class Clock:
    """Stands still while nodes work, and goes on while the server waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
