"""Which sites' sums a run's classifier contains: the run folder knows them, the exported model need not name them."""

from pathlib import Path

from fl_app.files import write_json
from fl_app.runs.documents import read_json
from fl_app.runs.exchanges import read_exchange


def known_sites(model: Path) -> list[str] | None:
    """Return the sites of the run and those that have joined since; None if the model lies in no run folder.

    Args:
        model: the exported folder, such as `<run>/classification/model`.

    Raises:
        RunFolderError: a file of the run is damaged.
    """
    exchanges = sorted((model.parent / "prototypes").glob("round-*.json"))
    if not exchanges:
        return None
    return [*read_exchange(exchanges[-1]).contributed, *_joined(model)]


def note_joined(model: Path, site: str) -> None:
    """Note in the run folder that a site has joined; without a run folder nothing is noted.

    Raises:
        RunFolderError: the file is damaged or cannot be written.
    """
    if (model.parent / "prototypes").is_dir():
        write_json(_path(model), [*_joined(model), site])


def _joined(model: Path) -> list[str]:
    return read_json(list[str], _path(model), ": it must list the names of the sites that joined.") or []


def _path(model: Path) -> Path:
    return model.parent / "joined.json"
