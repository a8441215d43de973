"""Real simulations of a tiny Flower app: one fails, one is stopped (in `test_package.py` one ends well)."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from fl_app.simulation import enclosure
from fl_app.simulation.flower import can_enclose
from tests.cli.fakes import MARK, find_marked, make_fake_app

_LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")

STRANGER = """
import os, sys
import ray

ray.init(address=f"127.0.0.1:{sys.argv[1]}", log_to_driver=False)
print("a stranger's task ran as user", ray.get(ray.remote(os.getuid).options(num_cpus=0).remote(), timeout=60))
"""
_SECONDS = 300  # a minute on an idle machine


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        exit_status: of `fl-app run`.
        output: what it printed.
        errors: what it printed as errors.
        folder: the run folder.
        survivors: command lines of its processes that are still alive.
        sockets: on which the run that waits listened.
        visitor: what a client of Ray without the token said.
        is_reached: for each of these sockets, whether it could be reached from outside the run's network.
    """

    exit_status: int
    output: str
    errors: str
    folder: Path
    survivors: list[list[str]]
    sockets: Sequence[tuple[int, str, str, int]] = ()
    visitor: str = ""
    is_reached: Sequence[bool] = ()


def start(behaviour: str, tmp: Path, mark: str) -> subprocess.Popen[str]:
    app = make_fake_app(tmp / behaviour, behaviour)
    program = "from fl_app.cli import main; main()"
    if behaviour == "raise":  # as on a system that gives a run no network of its own
        program = f"from fl_app.simulation import flower; flower.can_enclose = lambda: False; {program}"
    command = [sys.executable, "-c", program, "run", "--app", str(app), "--nodes", "2"]
    command += ["--out", str(tmp / "runs"), "--set", f"run-name={behaviour}"]
    environment = os.environ | {MARK: mark + behaviour, "TMPDIR": str(tmp / "private")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def find_sockets(mark: str) -> list[tuple[int, str, str, int]]:
    """Return process, program, address as the kernel writes it, and port of every socket that a run listens on."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) != mark:
                continue
            folder, program = Path(f"/proc/{process.pid}"), " ".join(process.cmdline())
            own = {os.readlink(link) for link in (folder / "fd").iterdir()}
            for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
                for row in map(str.split, (folder / "net" / kind).read_text().splitlines()[1:]):
                    if row[3] == state and f"socket:[{row[9]}]" in own:
                        address, _, port = row[1].partition(":")
                        found.append((process.pid, program, address, int(port, 16)))
        except (psutil.Error, OSError):
            continue
    return found


def visit(sockets: list[tuple[int, str, str, int]]) -> str:
    """Let a client without the token, inside the run's network, hand Ray a task; return what it says."""
    found = [(pid, port) for pid, program, _, port in sockets if "gcs_server" in program]
    if not found:
        return "Ray does not listen"
    pid, port = found[0]
    command = [sys.executable, "-I", "-S", enclosure.__file__, str(pid), sys.executable, "-c", STRANGER, str(port)]
    environment = {"PATH": os.defpath, "HOME": "/nowhere", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS)
    return answer.stdout + answer.stderr


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    tmp = tmp_path_factory.mktemp("real")
    (tmp / "private").mkdir()
    mark = uuid.uuid4().hex
    with ExitStack() as stack:
        running = {}
        for behaviour in ("raise", "wait"):
            running[behaviour] = stack.enter_context(start(behaviour, tmp, mark))
            stack.callback(running[behaviour].terminate)
        wait_for(tmp / "runs" / "wait" / "replied", running["wait"])
        sockets = find_sockets(mark + "wait")
        visitor = visit(sockets)
        is_reached = [can_connect(port) for *_, port in sockets]
        running["wait"].send_signal(signal.SIGINT)
        results = {}
        for behaviour, process in running.items():
            output, errors = process.communicate(timeout=_SECONDS)
            survivors = find_marked(mark + behaviour)
            results[behaviour] = Ended(process.returncode, output, errors, tmp / "runs" / behaviour, survivors)
        results["wait"] = replace(results["wait"], sockets=sockets, visitor=visitor, is_reached=is_reached)
        yield results


def test_no_process_of_a_run_listens_beyond_the_loopback_device(ended: dict[str, Ended]) -> None:
    sockets = ended["wait"].sockets
    assert len(sockets) > 5 and any("gcs_server" in program for _, program, _, _ in sockets)
    assert [one for one in sockets if one[2] not in _LOOPBACK] == []


def test_ray_takes_no_task_of_a_client_without_the_token(ended: dict[str, Ended]) -> None:
    assert "a stranger's task ran" not in ended["wait"].visitor
    assert "Unauthenticated" in ended["wait"].visitor


@pytest.mark.skipif(not can_enclose(), reason="this system gives no network namespace")
def test_nothing_of_a_run_is_reached_from_outside_its_network(ended: dict[str, Ended]) -> None:
    assert not any(ended["wait"].is_reached)
    assert "the run has a network of its own" in (ended["wait"].folder / "flower.log").read_text(encoding="utf-8")


def test_where_a_run_has_no_network_of_its_own_its_log_says_so(ended: dict[str, Ended]) -> None:
    log = (ended["raise"].folder / "flower.log").read_text(encoding="utf-8")
    assert "this system gives the run no network of its own" in log


def test_a_server_that_raises_exits_with_1_and_says_why(ended: dict[str, Ended]) -> None:
    run = ended["raise"]
    assert run.exit_status == 1
    assert "The run failed: Flower says 'finished:failed': " in run.errors
    assert "the server fell over" in run.errors.split("The run failed")[1]
    assert "RuntimeError: the server fell over" in (run.folder / "flower.log").read_text(encoding="utf-8")


def test_a_run_stopped_with_ctrl_c_exits_with_130_and_says_how_to_go_on(ended: dict[str, Ended]) -> None:
    run = ended["wait"]
    assert run.exit_status == 130
    assert "Stopped. Go on, from any folder, with:\n  fl-app run --nodes 2 --set resume=" in run.errors
    assert f"resume={run.folder} " in run.errors
    assert "run-name" not in run.errors


@pytest.mark.parametrize("behaviour", ["raise", "wait"])
def test_no_process_is_left_behind(ended: dict[str, Ended], behaviour: str) -> None:
    assert ended[behaviour].survivors == []


def test_the_private_folders_are_gone(ended: dict[str, Ended]) -> None:
    folder = ended["raise"].folder.parents[1] / "private"
    assert [one.name for one in folder.iterdir() if not one.name.startswith("torchinductor_")] == []  # PyTorch's own
