"""Puts the files of the Flower app, which stand at the top of the checkout, into the package as well."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithApp(build_py):
    """Also copies pyproject.toml, server_app.py, client_app.py, LICENSE and the recipes to `fl_app/app`."""

    def run(self) -> None:
        """Build the package; an editable installation finds the files in the checkout."""
        super().run()
        if self.editable_mode:
            return
        names = [
            "pyproject.toml",
            "server_app.py",
            "client_app.py",
            "LICENSE",
            *map(str, Path("recipes").glob("*.toml")),
        ]
        for name in names:
            target = Path(self.build_lib, "fl_app", "app", name)
            self.mkpath(str(target.parent))
            self.copy_file(name, str(target))


setup(cmdclass={"build_py": BuildWithApp})
