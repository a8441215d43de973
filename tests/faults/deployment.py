"""A federation of real processes on loopback, started as docs/deployment.md says: TLS, node keys, a database."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from fl_app.certificates import make_certificates, make_node_key
from fl_app.options.sections import OptionValue
from fl_app.simulation.processes import TOKEN_VARIABLE, end_processes, find_processes, start_guard
from tests.faults.images import write_folders
from tests.options import write_simulated_key

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
SITES = ("east", "north", "south")
_CONNECTION = '[superlink.hospitals]\naddress = "{address}"\nroot-certificates = "{authority}"\n'


class Deployment:
    """The processes of a federation, each in a group of its own with a log of its own.

    Attributes:
        home: of all its files.
        server: what lies at the coordinator: database, logs, run folders.
        folders: the hospitals' images, by site.
        address: of the SuperLink.
        processes: by name; the newest one where it was started again.
        started: all of them.
        deadline_seconds: what a round may take, by what this machine took to start the federation.
    """

    def __init__(self, home: Path, token: str) -> None:
        self.home = home
        self.server = home / "server"
        self.runs = self.server / "runs"
        self.folders = write_folders(home / "images", SITES)
        self.address = f"127.0.0.1:{free_port()}"
        self.authority = self.server / "ca.crt"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.started: list[subprocess.Popen[bytes]] = []
        self.deadline_seconds = 60.0
        self._token = token
        make_certificates(self.server, ["localhost", "127.0.0.1"], 30)
        (self.server / "executor.secret").write_text(secrets.token_hex(32))
        self.environment = self._environment(self.server)
        (self.server / "flower").mkdir()
        text = _CONNECTION.format(address=self.address, authority=self.authority)
        (self.server / "flower/config.toml").write_text(text)

    def start_superlink(self) -> None:
        """Start the SuperLink and wait until it listens."""
        host, port = self.address.split(":")
        files = {"ca-cert": "ca.crt", "cert": "server.pem", "key": "server.key"}
        tls = [word for name, file in files.items() for word in (f"--ssl-{name}file", str(self.server / file))]
        command = ["flower-superlink", *tls, "--enable-supernode-auth", "--host", host, "--port", port]
        command += ["--database", str(self.server / "state.db"), "--isolation", "process"]
        command += ["--superexec-auth-secret-file", str(self.server / "executor.secret")]
        self.start("superlink", [*command, "--disable-runtime-dependency-installation"], self.server)
        wait_until(lambda: _listens(host, int(port)), "the SuperLink listens", 120)

    def start_executor(self) -> None:
        """Start what runs the ServerApp, so that a killed SuperLink does not take it along."""
        command = ["flower-superexec", "--root-certificates", str(self.authority)]
        command += ["--superexec-auth-secret-file", str(self.server / "executor.secret")]
        self.start("executor", [*command, "--runtime-api-address", self.address], self.server)

    def register(self, site: str) -> None:
        """Make a hospital's key pair and tell the SuperLink the public one."""
        public = make_node_key(self.hospital(site), site)
        answer = self.flwr("supernode", "register", str(public), "hospitals", "--name", site)
        assert answer.returncode == 0, answer.stdout + answer.stderr

    def start_hospital(self, site: str, *options: str, port: int | None = None, claims: str | None = None) -> None:
        """Start a hospital's SuperNode; its images are those of `folders`, a stranger's those of another one.

        Args:
            site: its name.
            options: in place of the authority of the federation, or added.
            port: for the hospital's own executor; None: one that nobody uses.
            claims: the name that it uses in the federation, if it is another one.
        """
        home = self.hospital(site)
        images = self.folders.get(site, next(iter(self.folders.values())))
        if not (home / "state").exists():  # the parts are those of a simulation, and the same in each test
            write_simulated_key(home / "state", claims or site)
        config = f'data-path="{images}" site="{claims or site}" state-dir="{home / "state"}"'
        config += " min-images=1 min-held-out=1 min-class-count=1 validation-share=0.2"  # as in `rounds`
        config += " max-unreadable-share=0.0"  # so that one broken image is too many
        trust = () if "--root-certificates" in options else ("--root-certificates", str(self.authority))
        command = ["fl-app", "supernode", *trust, *options, "--auth-supernode-private-key", str(home / f"{site}.key")]
        command += ["--superlink", self.address, "--host", "127.0.0.1", "--port", str(port or free_port())]
        self.start(site, [*command, "--node-config", config], home, nan_switch(home))

    def start_hospital_like_systemd(self, site: str, seconds: float = 120) -> None:
        """Start a hospital again and again until it stays: the SuperLink refuses one that it takes for still there."""
        deadline = time.monotonic() + seconds
        known = self.log(site).count("SuperNode ID")
        while self.log(site).count("SuperNode ID") == known:
            assert time.monotonic() < deadline, self.log(site)[-2000:]
            if self.processes[site].poll() is not None:
                self.start_hospital(site)
            time.sleep(0.5)

    def hospital(self, site: str) -> Path:
        """Return the folder of a hospital's own files."""
        return self.home / "hospitals" / site

    def start(self, name: str, command: list[str], home: Path, variables: Mapping[str, str] | None = None) -> None:
        """Start a process that writes to `<home>/<name>.log`."""
        home.mkdir(parents=True, exist_ok=True)
        with (home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(PROGRAMS / command[0]), *command[1:]],
                cwd=home,
                env=self._environment(home) | dict(variables or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(self.processes[name])

    def log(self, name: str) -> str:
        """Read what a process and its children printed."""
        home = self.server if name in ("superlink", "executor") else self.hospital(name)
        path = home / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process and all its children."""
        os.killpg(self.processes[name].pid, number)
        if number == signal.SIGKILL:
            self.processes[name].wait()

    def flwr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `flwr` at the coordinator."""
        command = [str(PROGRAMS / "flwr"), *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )

    def submit(self, options: Mapping[str, OptionValue], app: Path = ROOT) -> int:
        """Submit this repository's app, or that of another folder, and return the run's id."""
        file = self.server / f"options-{secrets.token_hex(4)}.toml"
        file.write_text("".join(f"{json.dumps(name)} = {json.dumps(value)}\n" for name, value in options.items()))
        answer = self.flwr("run", str(app), "hospitals", "--run-config", str(file), "--format", "json")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return int(json.loads(answer.stdout)["run-id"])

    def flower_status(self, run_id: int) -> str:
        """Ask the SuperLink how a run stands: `finished:completed` and the like."""
        answer = self.flwr("ls", "hospitals", "--run-id", str(run_id), "--format", "json")
        return str(json.loads(answer.stdout)["runs"][0]["status"]) if answer.returncode == 0 else answer.stderr

    def _environment(self, home: Path) -> dict[str, str]:
        foreign = ("FLWR_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        own = {
            "FLWR_HOME": str(home / "flower"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            TOKEN_VARIABLE: self._token,
        }
        return inherited | own


@contextmanager
def deployed(home: Path, sites: tuple[str, ...] = SITES) -> Iterator[Deployment]:
    """Start a SuperLink with its executor and registered hospitals, and end all of it, whatever happens.

    Raises:
        AssertionError: a process outlived the end.
    """
    token = secrets.token_hex(16)
    federation = Deployment(home, token)
    guard = start_guard(token, home)  # should the tests themselves be killed
    try:
        begun = time.monotonic()
        federation.start_superlink()
        federation.start_executor()
        for site in sites:
            federation.register(site)
        for site in sites:
            federation.start_hospital(site)
        for site in sites:
            wait_until(lambda site=site: "SuperNode ID" in federation.log(site), f"{site} is connected", 120)  # type: ignore[misc]
        federation.deadline_seconds = 30.0 + 3 * round(time.monotonic() - begun)
        yield federation
    finally:
        end_processes(token)
        for process in federation.started:
            process.wait()
        guard.communicate()
    assert find_processes(token) == []


def num_online(federation: Deployment) -> int:
    """Count the nodes that the SuperLink takes for connected."""
    answer = federation.flwr("supernode", "list", "hospitals", "--format", "json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return sum(node["status"] == "online" for node in json.loads(answer.stdout)["nodes"])


def nan_switch(home: Path) -> dict[str, str]:
    """Return the environment that makes a hospital send NaN while `<home>/nan` is there."""
    return {"PYTHONPATH": str(Path(__file__).parent / "hook"), "FAULT_NAN": str(home / "nan")}


def descendants(federation: Deployment, name: str) -> list[psutil.Process]:
    return psutil.Process(federation.processes[name].pid).children(recursive=True)


def running(federation: Deployment, name: str, program: str) -> list[psutil.Process]:
    """Find the processes of a program that a process of the federation has started and that have not ended."""
    found = []
    for process in descendants(federation, name):
        with suppress(psutil.Error):  # ended meanwhile
            if program in " ".join(process.cmdline()):
                found.append(process)
    return found


def wait_until(is_true: Callable[[], Any], what: str, seconds: float) -> None:
    """Wait for something that must become true.

    Raises:
        AssertionError: it did not.
    """
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


def free_port() -> int:
    """Return a port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
