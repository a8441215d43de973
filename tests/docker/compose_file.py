"""A compose file as the tests read it: services with their commands, mounts and networks, variables filled in."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
_VARIABLE = re.compile(r"\$\{(\w+)(:?-)([^}]*)\}")


@dataclass(frozen=True)
class Mount:
    """A volume or a folder, where a service sees it, and whether it may write there."""

    source: str
    target: str
    is_read_only: bool


@dataclass(frozen=True)
class Service:
    """One service of a compose file.

    Attributes:
        name: its name, and its host name in the networks.
        command: program and arguments.
        environment: what it sets beside the image's own.
        mounts: its volumes.
        networks: the networks it is in; none for `network_mode: none`.
        waits_for: {service: condition}.
        health: command of its health check; empty if that is disabled.
        raw: the whole entry.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    mounts: tuple[Mount, ...]
    networks: frozenset[str]
    waits_for: dict[str, str]
    health: tuple[str, ...]
    raw: dict[str, Any]

    @property
    def is_job(self) -> bool:
        """Whether it ends by itself."""
        return self.raw.get("restart") == "no"


def read_compose(path: Path, variables: Mapping[str, str]) -> dict[str, Service]:
    """Read a compose file with these variables, and no others, set."""
    document = yaml.safe_load(fill_in(path.read_text(encoding="utf-8"), variables))
    return {name: _service(name, entry) for name, entry in document["services"].items()}


def fill_in(text: str, variables: Mapping[str, str]) -> str:
    """Replace `${NAME-default}` and `${NAME:-default}`; the second form takes the default for an empty value, too."""

    def value(match: re.Match[str]) -> str:
        name, operator, default = match.groups()
        given = variables.get(name)
        return default if given is None or (operator == ":-" and not given) else given

    return _VARIABLE.sub(value, text)


def in_order(services: Mapping[str, Service]) -> Iterator[Service]:
    """Yield every service after those that it waits for."""
    done: set[str] = set()
    while len(done) < len(services):
        ready = [one for one in services.values() if one.name not in done and one.waits_for.keys() <= done]
        assert ready, f"services wait for one another or for missing ones: {services.keys() - done}"
        for service in ready:
            done.add(service.name)
            yield service


def read_image_environment(dockerfile: Path) -> dict[str, str]:
    """Return what the Dockerfile's ENV instructions set."""
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ENV (.*)$", text, flags=re.MULTILINE)
    return dict(word.split("=", 1) for line in lines for word in line.split())


def _service(name: str, entry: dict[str, Any]) -> Service:
    health = entry.get("healthcheck", {})
    test = () if health.get("disable") else tuple(health.get("test", ()))
    assert not test or test[0] == "CMD", f"{name}: the tests read health checks of the form [CMD, ...] only"
    return Service(
        name=name,
        command=tuple(entry["command"]),
        environment=dict(entry.get("environment", {})),
        mounts=tuple(_mount(text) for text in entry.get("volumes", ())),
        networks=frozenset(entry.get("networks", ())),
        waits_for={other: one["condition"] for other, one in entry.get("depends_on", {}).items()},
        health=test[1:],
        raw=entry,
    )


def _mount(text: str) -> Mount:
    source, target, *mode = text.split(":")
    assert mode in ([], ["ro"]), f"unknown mode of a mount: {text}"
    return Mount(source, target, mode == ["ro"])
