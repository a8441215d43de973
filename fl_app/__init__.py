"""Hospitals that may not share images train image models together.

In Python: `run` simulates a federation, `open_run` opens a run that is there, `list_runs` and `list_options` list,
`compare` compares runs, and `open_classifier` opens a classifier that was exported. Nothing is imported before it is
used.
"""

TYPE_CHECKING = False  # a checker takes it for True; the import of `typing` would take longer than all of this file
if TYPE_CHECKING:
    from fl_app.api.classifier import Answers, Classifier, open_classifier
    from fl_app.api.compare import compare
    from fl_app.api.run import Run, list_runs, open_run
    from fl_app.api.start import list_options, run
    from fl_app.errors import DataError, FederationError, FlAppError, OptionError, RunFolderError
    from fl_app.grids.comparison import Comparison

__all__ = [
    "Answers",
    "Classifier",
    "Comparison",
    "DataError",
    "FederationError",
    "FlAppError",
    "OptionError",
    "Run",
    "RunFolderError",
    "compare",
    "list_options",
    "list_runs",
    "open_classifier",
    "open_run",
    "run",
]

_HOMES = {
    "fl_app.api.classifier": ("Answers", "Classifier", "open_classifier"),
    "fl_app.api.compare": ("compare",),
    "fl_app.api.run": ("Run", "list_runs", "open_run"),
    "fl_app.api.start": ("list_options", "run"),
    "fl_app.errors": ("DataError", "FederationError", "FlAppError", "OptionError", "RunFolderError"),
    "fl_app.grids.comparison": ("Comparison",),
}

if not TYPE_CHECKING:  # or a checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        """Import the module of a name when the name is first used."""
        from importlib import import_module

        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(home), name)
        raise AttributeError(f"module 'fl_app' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
