"""The errors that fl-app raises on purpose; each says what was found, what was expected and what to do."""

import difflib
from collections.abc import Iterable


class FlAppError(Exception):
    """A problem that the user can fix; its text is the whole message.

    Attributes:
        public: the text that may leave a hospital, without file names and values; the whole message if that holds none.
    """

    def __init__(self, message: str, *, public: str | None = None) -> None:
        super().__init__(message)
        self.public = message if public is None else public


class OptionError(FlAppError):
    """An option is unknown, of the wrong type or out of range."""


class DataError(FlAppError):
    """Images are missing, damaged or not as the options say."""

    def __init__(self, message: str, *, public: str = "the images cannot be read") -> None:
        super().__init__(message, public=public)


class RunFolderError(FlAppError):
    """A run folder cannot be written, read or resumed."""


class FederationError(FlAppError):
    """The federation cannot go on: too few nodes, or too many failed rounds."""


def did_you_mean(found: object, known: Iterable[str], least: float = 0.5) -> str:
    """Return the question that ends a refusal: is the most similar of the known words meant? Empty if none is similar.

    Args:
        found: the refused word; upper and lower case are the same here.
        known: the words that would have been taken.
        least: similarity, 0 to 1, as difflib measures it.
    """
    by_lower_case = {one.lower(): one for one in known}
    close = difflib.get_close_matches(str(found).lower(), by_lower_case, n=1, cutoff=least)
    return f" Did you mean '{by_lower_case[close[0]]}'?" if close else ""


def is_fault(error: BaseException) -> bool:
    """Tell whether something failed; false for a request to end the program.

    A panic of a Rust extension reaches Python as a BaseException that is no Exception (PyO3/pyo3#2783).
    """
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"
