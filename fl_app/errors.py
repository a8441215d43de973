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


class UnknownRunError(OptionError, RunFolderError):
    """No run has the given name or folder."""


class FederationError(FlAppError):
    """The federation cannot go on: too few nodes, or too many failed rounds."""


class RejectedReply(Exception):
    """A reply is rejected; the text is the reason, which the round's record shows."""


def did_you_mean(found: object, known: Iterable[str], least: float = 0.6) -> str:
    """Return the end of an error: `Did you mean '…'?` with the most similar known word; empty if none is similar.

    Args:
        found: the rejected word; case is ignored. A number resembles nothing.
        known: the words that would have been accepted.
        least: similarity, 0 to 1, as difflib measures it.
    """
    if str(found).isdecimal():
        return ""
    by_lower_case = {one.lower(): one for one in known}
    close = difflib.get_close_matches(str(found).lower(), by_lower_case, n=1, cutoff=least)
    return f" Did you mean '{by_lower_case[close[0]]}'?" if close else ""


def is_fault(error: BaseException) -> bool:
    """Tell whether something failed; false for a request to end the program.

    A panic of a Rust extension reaches Python as a BaseException that is no Exception (PyO3/pyo3#2783).
    """
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"
