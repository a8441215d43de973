"""README.md of an exported model: what the folder is, how to open it, and under which licence it may be used."""

from pathlib import Path

CARD = "README.md"
_NOT_STATED = (
    "not stated. The hospitals that trained this model decide who may use it, and for what: ask them before you use it "
    "or pass it on."
)


def write_card(folder: Path, what: str, use: str, licence: str) -> None:
    """Write the README.md of an exported model.

    Args:
        folder: of the model, existing.
        what: the model, such as `Classifier`.
        use: how to open it, a sentence.
        licence: as the run's option `export.licence` states it; empty: not stated.

    Raises:
        OSError: the file cannot be written.
    """
    text = f"# {what} trained with fl-app\n\nLicence: {licence or _NOT_STATED}\n\n{use}\n"
    (folder / CARD).write_text(text, encoding="utf-8", newline="\n")
