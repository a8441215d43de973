"""A federation in one process, for tests: see `benchmarks.local_grid`."""

from benchmarks.local_grid import LocalGrid, Meddle, run_federation

__all__ = ["LocalGrid", "Meddle", "run_federation"]
