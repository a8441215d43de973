"""One simulated run in a private Flower: its own home, port, SuperLink and processes, all removed at the end."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from fl_app.errors import FlAppError
from fl_app.options.app_files import PACKAGED
from fl_app.simulation import enclosure
from fl_app.simulation.app import write_app
from fl_app.simulation.processes import KEEP_ENVIRONMENT, TOKEN_VARIABLE, end_processes, ignore_signals, start_guard

_START_SECONDS = 120.0  # a busy machine needs most of it to import Flower
_LONGEST_TEMP = 23  # Ray's sockets lie 84 characters deeper, and may have 107
_ENCLOSE = [sys.executable, "-I", "-S", enclosure.__file__]
_USE_LOOPBACK = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"

_ENCLOSED = "fl-app: the run has a network of its own; other users of this machine do not reach its ports."
_OPEN = (
    "fl-app: this system gives the run no network of its own. Any user of this machine can submit an app to the run's "
    "SuperLink, which executes it as you: use a machine whose users you trust."
)

_CONNECTION = """[superlink]
default = "simulation"
[superlink.simulation]
address = "127.0.0.1:{port}"
insecure = true
"""


@dataclass(frozen=True)
class FlowerStatus:
    """Flower's own status of a run, such as `finished:completed` or `finished:failed`, and its reason."""

    status: str
    details: str

    @property
    def is_completed(self) -> bool:
        """Whether the ServerApp ran to its end."""
        return self.status == "finished:completed"


@dataclass(frozen=True)
class Simulation:
    """A running simulation.

    Attributes:
        home: private folder, removed at the end.
        environment: of every process of the run.
        network: what a command must begin with to reach the SuperLink; empty if the run has no network of its own.
        superlink: the SuperLink.
        flower_run: `flwr run --stream`.
    """

    home: Path
    environment: dict[str, str]
    network: list[str]
    superlink: subprocess.Popen[bytes]
    flower_run: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        """What the ServerApp, the clients and Flower printed."""
        return self.home / "run.log"

    def is_running(self) -> bool:
        """Return whether Flower still runs."""
        return self.flower_run.poll() is None and self.superlink.poll() is None

    def read_status(self) -> FlowerStatus:
        """Ask the SuperLink how the run stands, because `flwr run --stream` reports success whatever happened."""
        started = re.search(r"started run (\d+)", read_tail(self.log, num_lines=None))
        if started is None:
            return FlowerStatus("not started", "")
        command = [*self.network, _program("flwr"), "ls", "--run-id", started[1], "--format", "json"]
        answer = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        try:
            run = json.loads(answer.stdout)["runs"][0]
            return FlowerStatus(run["status"], run["status-details"])
        except (ValueError, LookupError):
            return FlowerStatus("unknown", "the SuperLink does not answer")


@contextmanager
def simulate(app: Path, run_config: str, num_nodes: int, gpu_share: float) -> Iterator[Simulation]:
    """Start a run and end all its processes when the block ends, however it ends.

    Args:
        app: folder of the Flower app.
        run_config: the options that override the app's defaults, as TOML.
        num_nodes: simulated nodes.
        gpu_share: part of a GPU for each node; 0: none.

    Raises:
        FlAppError: the SuperLink does not start.
    """
    home = choose_home()
    token = secrets.token_hex(16)
    guard = start_guard(token, home)
    try:
        environment = make_environment(home, token)
        (home / "ray-token").write_text(secrets.token_hex(32), encoding="utf-8")
        (home / "run.toml").write_text(run_config, encoding="utf-8")
        is_enclosed = can_enclose()
        (home / "run.log").write_text(f"{_ENCLOSED if is_enclosed else _OPEN}\n", encoding="utf-8")
        superlink = _start_superlink(home, environment, is_enclosed)
        network = [*_ENCLOSE, str(superlink.pid)] if is_enclosed else []
        if app == PACKAGED:  # Flower bundles code and options from one folder
            app = home / "fl-app"
            write_app(app)
        command = [*network, _program("flwr"), "run", str(app), "--stream", "--run-config", str(home / "run.toml")]
        shares = f"client-resources-num-cpus=1 client-resources-num-gpus={float(gpu_share)}"
        command += ["--federation-config", f"num-supernodes={num_nodes} {shares}"]
        flower_run = _start(command, home / "run.log", environment)
        yield Simulation(home, environment, network, superlink, flower_run)
    finally:
        ignore_signals()
        end_processes(token)
        shutil.rmtree(home, ignore_errors=True)
        guard.communicate()


def choose_home() -> Path:
    """Make a private folder whose name is short enough for Ray's sockets."""
    short_enough = len(tempfile.gettempdir()) <= _LONGEST_TEMP
    return Path(tempfile.mkdtemp(prefix="fl-app-", dir=None if short_enough else "/tmp"))


def can_enclose() -> bool:
    """Return whether this system gives a run a network of its own; Linux does by default."""
    command = [*_ENCLOSE, "new", sys.executable, "-I", "-S", "-c", _USE_LOOPBACK]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def make_environment(home: Path, token: str) -> dict[str, str]:
    """Make the environment of a run's processes: private folders, no telemetry, no installation, one thread each.

    A variable that is meant for other systems tells Ray that it runs on one machine only, so it listens on the loopback
    device alone. It accepts no task without the token in the private folder.
    """
    # The first three could point to another run's Flower or Ray. Without bytecode every process compiles torch again.
    foreign = ("FLWR_", "RAY_ADDRESS", "RAY_AUTH_", "PYTHONDONTWRITEBYTECODE")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    own = {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_TMPDIR": str(home),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "ray-token"),
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        TOKEN_VARIABLE: token,
    }
    paths = {name: os.path.abspath(inherited[name]) for name in ("FL_APP_DATA",) if inherited.get(name)}
    return threads | inherited | own | paths | KEEP_ENVIRONMENT


def read_tail(path: Path, num_lines: int | None = 30) -> str:
    """Read the last lines of a log, without colours; empty if there is none."""
    if not path.exists():
        return ""
    text = re.sub(r"\x1b\[[0-9;]*m", "", path.read_text(encoding="utf-8", errors="replace"))
    return text if num_lines is None else "\n".join(text.splitlines()[-num_lines:])


def _start_superlink(home: Path, environment: dict[str, str], is_enclosed: bool) -> subprocess.Popen[bytes]:
    for _ in range(3):  # somebody else may take the free port first
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        command = [*_ENCLOSE, "new"] if is_enclosed else []
        command += [_program("flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"]
        superlink = _start(command, home / "superlink.log", environment)
        if _wait_for_port(superlink, port, is_enclosed):
            (home / "config.toml").write_text(_CONNECTION.format(port=port), encoding="utf-8")
            return superlink
    raise FlAppError(f"Flower's SuperLink did not start:\n{read_tail(home / 'superlink.log')}")


def _start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that Ctrl-C reaches fl-app alone.

    Its working folder is private: Ray's workers import from it before they look into the bundle.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for_port(superlink: subprocess.Popen[bytes], port: int, is_enclosed: bool) -> bool:
    """Wait until this process listens on the port; an answer alone could come from another run's SuperLink."""
    deadline = time.monotonic() + _START_SECONDS
    while superlink.poll() is None and time.monotonic() < deadline:
        try:
            if _listens(superlink.pid, port, is_enclosed):
                return True
        except (OSError, psutil.NoSuchProcess):  # it has just ended
            break
        time.sleep(0.1)
    superlink.kill()
    superlink.wait()
    return False


def _listens(pid: int, port: int, is_enclosed: bool) -> bool:
    """Return whether a process listens on a port; or, in a network of its own, whether any does."""
    if not is_enclosed:
        connections = psutil.Process(pid).net_connections(kind="tcp")
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)
    network = Path(f"/proc/{pid}/ns/net")  # psutil does not look into other networks
    if network.stat().st_ino == Path("/proc/self/ns/net").stat().st_ino:
        return False  # it has not entered its network yet
    rows = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:])
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)  # 0A: it listens


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)
