"""Two ways to start a service's command as a process of this machine: from the checkout, or from the built image."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.docker.compose_file import DOCKER, ROOT, Service, read_image_environment

_PROGRAMS = Path(sys.executable).parent
_OF_EXECUTOR = {"/data": "images", "/state": "state"}
_USER = 1000  # of the image, unless it was built for another one
_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Launcher(Protocol):
    """Turns what a service says into what is started here."""

    def command(self, service: Service, words: list[str], environment: Mapping[str, str]) -> list[str]:
        """Return a command that becomes the service's process; nothing of this process's environment is in it.

        Args:
            service: whose mounts are used.
            words: program and arguments, addresses already those of loopback.
            environment: what the service sets, beside the image's.
        """

    def folder(self, source: str) -> Path:
        """Return where a volume lies on this machine."""


class Checkout:
    """Starts services with this interpreter: the paths of a container become those of folders."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def folder(self, source: str) -> Path:
        """Return where a volume lies on this machine."""
        found = self.home / "volumes" / source.lstrip("./")
        found.mkdir(parents=True, exist_ok=True)
        return found

    def command(self, service: Service, words: list[str], environment: Mapping[str, str]) -> list[str]:
        """Return a command that runs in this checkout, everything it writes below `home`."""
        private = self.home / "tmp" / service.name
        private.mkdir(parents=True, exist_ok=True)
        places = {"/app": str(ROOT), "/tmp": str(private)}
        places |= {mount.target: str(self.folder(mount.source)) for mount in service.mounts}
        for name, what in _OF_EXECUTOR.items():  # a SuperNode's configuration names folders that its executor has
            if name not in places and any(name in word for word in words):
                places[name] = str(self.folder(f"{service.name}-{what}"))
        image = read_image_environment(DOCKER / "Dockerfile") | dict(environment)
        here = {name: _place(value, places) for name, value in image.items() if name != "VIRTUAL_ENV"}
        here |= {"PATH": f"{_PROGRAMS}:{_FOLDERS}", "PYTHONPATH": str(ROOT), "HOME": str(private)}
        pairs = [f"{name}={value}" for name, value in here.items()]
        return ["env", "-i", "-C", str(ROOT), *pairs, *(_place(word, places) for word in words)]


class Image:
    """Starts services from the image's own files: its user, its root read-only, the volumes mounted as they say."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.home = root, home

    def folder(self, source: str) -> Path:
        """Return where a volume lies on this machine; a new one belongs to the image's user."""
        found = self.home / "volumes" / source.lstrip("./")
        if not found.exists():
            found.mkdir(parents=True)
            os.chown(found, _USER, _USER)
        return found

    def command(self, service: Service, words: list[str], environment: Mapping[str, str]) -> list[str]:
        """Return a command in a mount namespace of its own, which ends with the process."""
        root = shlex.quote(str(self.root))
        steps = [f"mount --bind {root} {root}", f"mount -o remount,bind,ro {root}"]
        steps += [
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            f"mount -t tmpfs tmpfs {root}/tmp",
        ]
        for mount in service.mounts:
            target = root + mount.target
            steps.append(f"mount --bind {shlex.quote(str(self.folder(mount.source)))} {target}")
            steps += [f"mount -o remount,bind,ro {target}"] if mount.is_read_only else []
        image = read_image_environment(DOCKER / "Dockerfile") | dict(environment)
        pairs = [f"{name}={value}" for name, value in image.items()]
        inside = ["chroot", f"--userspec={_USER}:{_USER}", str(self.root), "/usr/bin/env", "-i", "-C", "/app"]
        steps.append(f"exec {shlex.join([*inside, *pairs, *words])}")
        return ["unshare", "--mount", "sh", "-ec", "\n".join(steps)]


def _place(text: str, places: Mapping[str, str]) -> str:
    """Replace the paths of a container that a text holds."""
    names = "|".join(sorted(map(re.escape, places), key=len, reverse=True))
    return re.sub(rf"(?<![\w.:/-])({names})(?![\w-])", lambda match: places[match[1]], text)
