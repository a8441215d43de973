"""The classifier that a command works with, and the files that it may write."""

from pathlib import Path
from typing import TYPE_CHECKING

from fl_app.errors import OptionError, RunFolderError

if TYPE_CHECKING:
    import torch


def find_model(run: Path) -> Path:
    """Return the exported classifier of a run, absolute; `run` may be that folder itself.

    Raises:
        RunFolderError: there is none.
    """
    from fl_app.files import recover_folder

    run = run.resolve()
    candidates = (run / "classification" / "model", run)
    for folder in candidates:
        if folder.name == "model":  # and no folder of somebody else's
            recover_folder(folder)
    model = next((folder for folder in candidates if (folder / "model.json").is_file()), None)
    if model is None:
        found = "no finished classification model" if (run / "run.json").is_file() else "no run folder"
        found = found if run.is_dir() else "no such folder"
        raise RunFolderError(
            f"{run}: {found}. Give the folder of a completed run whose tasks name classification, "
            "or the folder classification/model in it."
        )
    return model


def check_writable(out: Path) -> None:
    """Refuse, before the work begins, a result file that is no file; raises OptionError."""
    if out.exists() and not out.is_file():
        raise OptionError(f"--out must name a file, got {out}.")


def best_device() -> "torch.device":
    """Return the GPU where there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
