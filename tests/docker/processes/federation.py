"""A compose file brought up without an engine: each service a process, in order, and every one of them ended."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.docker.compose_file import Service, in_order
from tests.docker.processes.launchers import Launcher

_HEALTHY_SECONDS, _JOB_SECONDS = 180.0, 180.0  # a busy machine needs most of a minute to import Flower
_RESTART_SECONDS = 10.0
_SELF = ("localhost", "127.0.0.1", "0.0.0.0")


class Federation:
    """The services of a compose file as processes; names become loopback, and (service, port) a port of its own."""

    def __init__(self, services: Mapping[str, Service], launcher: Launcher, home: Path) -> None:
        self.services, self.launcher, self.home = services, launcher, home
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._restarted = time.monotonic()
        self._ports: dict[tuple[str, int], int] = {}

    def up(self) -> None:
        """Start every service that belongs to no profile, as soon as what it waits for has happened."""
        for service in in_order({name: one for name, one in self.services.items() if "profiles" not in one.raw}):
            if service.is_job:
                status = self.run(service.name, _JOB_SECONDS)
                assert status == 0, f"{service.name} ended with {status}:\n{self.log(service.name)}"
            else:
                self.start(service.name)
        for name in self.processes:
            if not self.services[name].is_job:
                self.wait_until_healthy(name)

    def start(self, name: str) -> None:
        """Start a service once those are healthy that it waits for."""
        service = self.services[name]
        for other, condition in service.waits_for.items():
            if condition == "service_healthy":
                self.wait_until_healthy(other)
        with self._log_file(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self._command(service, list(service.command)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, name: str, seconds: float) -> int:
        """Run a service that ends by itself, and return its exit status."""
        self.start(name)
        deadline = time.monotonic() + seconds
        while self.processes[name].poll() is None and time.monotonic() < deadline:
            self._restart_ended()
            time.sleep(0.5)
        return self.processes[name].wait(timeout=0.1)

    def wait_until_healthy(self, name: str) -> None:
        """Wait until a service's own health check succeeds.

        Raises:
            AssertionError: it ended, or did not become healthy in time.
        """
        service, deadline = self.services[name], time.monotonic() + _HEALTHY_SECONDS
        while (answer := self._ask(service)).returncode != 0:
            ended = self.processes[name].poll()
            assert ended is None, f"{name} ended with {ended}:\n{self.log(name)}"
            assert time.monotonic() < deadline, f"{name} is not healthy: {answer.stderr}\n{self.log(name)}"
            time.sleep(0.5)

    def log(self, name: str) -> str:
        """Return the end of what a service and its children printed."""
        return self._log_file(name).read_text(encoding="utf-8", errors="replace")[-6000:]

    def end(self) -> list[list[str]]:
        """End all processes, gently first, and return the command lines of those that had to be killed after that."""
        sessions = {os.getsid(process.pid) for process in self._descendants()}
        for number, seconds in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
            for session in sessions:
                _signal_session(session, number)
            deadline = time.monotonic() + seconds
            while _alive(sessions) and time.monotonic() < deadline:
                for process in self.processes.values():
                    process.poll()
                time.sleep(0.1)
        survivors = [process.cmdline() for process in _alive(sessions)]
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1.0)
        return survivors

    def _restart_ended(self) -> None:
        """Do what `restart: unless-stopped` does, at most every ten seconds."""
        if time.monotonic() - self._restarted < _RESTART_SECONDS:
            return
        for name in [name for name, process in self.processes.items() if process.poll() is not None]:
            if not self.services[name].is_job:
                self._restarted = time.monotonic()
                self.start(name)

    def _descendants(self) -> list[psutil.Process]:
        """Return the services' processes and all below them, also those that left their session."""
        found = []
        for process in self.processes.values():
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(process.pid)
                found += [parent, *parent.children(recursive=True)]
        return [process for process in found if process.is_running()]

    def _ask(self, service: Service) -> subprocess.CompletedProcess[str]:
        command = self._command(service, list(service.health))
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def _command(self, service: Service, words: list[str]) -> list[str]:
        local = [self._localise(service, word, before) for before, word in zip(["", *words], words, strict=False)]
        environment = {name: self._localise(service, value, "") for name, value in service.environment.items()}
        return self.launcher.command(service, local, environment)

    def _localise(self, service: Service, word: str, before: str) -> str:
        """Turn what a word says about hosts and ports into what holds on this machine."""
        if before == "--port":
            return str(self._port(service.name, int(word)))
        if before == "--host" and word == "0.0.0.0":
            return "127.0.0.1"
        names = "|".join(map(re.escape, sorted((*_SELF, *self.services), key=len, reverse=True)))

        def address(match: re.Match[str]) -> str:
            owner = service.name if match[1] in _SELF else match[1]
            return f"127.0.0.1:{self._port(owner, int(match[2]))}"

        return re.sub(rf"(?<![\w.-])({names}):(\d+)\b", address, word)

    def _port(self, owner: str, port: int) -> int:
        if (owner, port) not in self._ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._ports[owner, port] = int(probe.getsockname()[1])
        return self._ports[owner, port]

    def _log_file(self, name: str) -> Path:
        folder = self.home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"


@contextmanager
def brought_up(services: Mapping[str, Service], launcher: Launcher, home: Path) -> Iterator[Federation]:
    """Bring a compose file up and take it down, however the block ends; keep no file.

    Raises:
        AssertionError: a service did not start, or a process outlived the end.
    """
    federation = Federation(services, launcher, home)
    try:
        federation.up()
        yield federation
    finally:
        survivors = federation.end()
        shutil.rmtree(home, ignore_errors=True)
    assert survivors == []


def _alive(sessions: set[int]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def _signal_session(session: int, number: signal.Signals) -> None:
    for process in _alive({session}):
        try:
            process.send_signal(number)
        except psutil.Error:
            continue
