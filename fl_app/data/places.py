"""Where the files lie that a table names: inside its folder, whatever links and accents there are in their names."""

import os
from pathlib import Path

from fl_app.data.listing import composed


class Places:
    """The files of a folder by their names in a table; each subfolder is looked up once.

    Args:
        root: the folder that no name may leave.
    """

    def __init__(self, root: Path) -> None:
        self._real_root = os.path.realpath(root)
        self._folders: dict[str, tuple[str, str]] = {"": (str(root), self._real_root)}
        self._names: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> tuple[Path, str]:
        """Return the path of a file, which need not exist, and the path that links lead to.

        Args:
            name: relative to the folder, with slashes or backslashes. Accents may be composed or not.

        Raises:
            ValueError: it leads out of the folder, or is no name.
        """
        name = name.replace("\\", "/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts or "\0" in name or name.startswith("/") or ".." in parts or ":" in parts[0]:
            raise ValueError("outside")
        try:
            path, real = self._step("/".join(parts[:-1]), parts[-1])
        except OSError:  # a name too long
            raise ValueError("outside") from None
        return Path(path), real

    def _step(self, folder_name: str, name: str) -> tuple[str, str]:
        folder, real_folder = self._folder(folder_name)
        path = f"{folder}/{self._name_of(folder, name)}"
        if not os.path.islink(path):
            return path, f"{real_folder}/{path[len(folder) + 1 :]}"
        real = os.path.realpath(path)
        if os.path.islink(real) or os.path.commonpath([real, self._real_root]) != self._real_root:  # a loop, or outside
            raise ValueError("outside")
        return path, real

    def _folder(self, name: str) -> tuple[str, str]:
        if name not in self._folders:
            above, _, last = name.rpartition("/")
            self._folders[name] = self._step(above, last)
        return self._folders[name]

    def _name_of(self, folder: str, name: str) -> str:
        """Return a name as the disk has it, if it differs in nothing but the way in which accents are written."""
        if name.isascii() or os.path.lexists(f"{folder}/{name}"):
            return name
        if folder not in self._names:
            try:
                self._names[folder] = {composed(found): found for found in os.listdir(folder)}
            except OSError:  # it is not there, and so nothing in it
                self._names[folder] = {}
        return self._names[folder].get(composed(name), name)
