"""The small programs in the image: the health check, the connection, the registration, the demo."""

import json
import os
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fl_app.certificates import make_certificates
from tests.docker.compose_file import DOCKER

_REGISTERED = "echo registered"
_IN_USE = "echo 'Error: Public key already in use.' >&2; exit 1"
_DOWN = "echo 'Error: the SuperLink does not answer' >&2; exit 1"


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), _Health) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def ask(address: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, DOCKER / "healthcheck.py", FL_APP_HEALTH=address)


def fake_flwr(folder: Path, script: str) -> str:
    """Make a `flwr` that runs a script, and return the PATH that finds it."""
    program = folder / "bin" / "flwr"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"


def test_a_service_that_answers_is_healthy(server: HTTPServer) -> None:
    port = server.server_address[1]
    assert ask(f"http://127.0.0.1:{port}/health").returncode == 0
    assert ask(f"tcp://127.0.0.1:{port}").returncode == 0


def test_a_service_that_answers_with_an_error_is_not_healthy(server: HTTPServer) -> None:
    answer = ask(f"http://127.0.0.1:{server.server_address[1]}/elsewhere")
    assert answer.returncode == 1 and "404" in answer.stderr


def test_a_server_without_tls_is_not_healthy_where_https_is_asked_for(server: HTTPServer, tmp_path: Path) -> None:
    make_certificates(tmp_path, ["127.0.0.1"], 1)
    answer = ask(f"https://127.0.0.1:{server.server_address[1]}/health {tmp_path}/ca.crt")
    assert answer.returncode == 1 and "SSL" in answer.stderr


@pytest.mark.parametrize("scheme", ["tcp", "http"])
def test_a_service_that_is_not_there_is_not_healthy(scheme: str) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        answer = ask(f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/health")
    assert answer.returncode == 1 and "refused" in answer.stderr


def test_a_health_check_without_an_address_fails_and_says_so() -> None:
    answer = ask("")
    assert answer.returncode == 1 and "FL_APP_HEALTH names no address" in answer.stderr


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [("/ca.crt", {"root-certificates": "/ca.crt"}), ("insecure", {"insecure": True})],
)
def test_a_command_finds_the_connection_and_its_arguments(
    tmp_path: Path, certificate: str, expected: dict[str, object]
) -> None:
    home = tmp_path / "home"
    script = DOCKER / "connected.sh"
    answer = run("sh", script, "superlink:8000", certificate, "printf", "%s,", "one two", "three", FLWR_HOME=str(home))
    assert answer.stdout == "one two,three,"
    written = tomllib.loads((home / "config.toml").read_text(encoding="utf-8"))
    assert written["superlink"]["federation"] == {"address": "superlink:8000"} | expected


@pytest.mark.parametrize(
    ("script", "exit_status", "said"),
    [(_REGISTERED, 0, "north: registered"), (_IN_USE, 0, "is registered already"), (_DOWN, 1, "does not answer")],
    ids=["new", "known", "down"],
)
def test_a_hospital_is_registered_once(tmp_path: Path, script: str, exit_status: int, said: str) -> None:
    (tmp_path / "north.pub").write_text("")
    answer = run("sh", DOCKER / "register.sh", tmp_path, PATH=fake_flwr(tmp_path, script))
    assert answer.returncode == exit_status and said in answer.stdout + answer.stderr


def run_demo(folder: Path, status: dict[str, object] | None, exit_status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the demo with a `flwr` that keeps its options, and leaves this status in the run folder that they name."""
    keep = f'for last; do :; done; cp "$last" "{folder}/options.toml"'
    name = '$(sed -n \'s/^run-name = "\\(.*\\)"/\\1/p\' "$last")'
    leave = f"mkdir {folder}/{name}; echo '{json.dumps(status)}' > {folder}/{name}/status.json" if status else ""
    path = fake_flwr(folder, f"{keep}\n{leave}\nexit {exit_status}")
    (folder / "tiny.toml").write_text("seed = 3\n")
    return run(sys.executable, DOCKER / "demo.py", folder, folder / "tiny.toml", PATH=path)


def test_the_demo_says_where_the_results_are_and_succeeds(tmp_path: Path) -> None:
    answer = run_demo(tmp_path, {"state": "completed", "reason": None})
    options = tomllib.loads((tmp_path / "options.toml").read_text(encoding="utf-8"))
    assert options == {
        "output-dir": str(tmp_path),
        "run-name": options["run-name"],
        "recipe": "tiny",
        "seed": 3,
    }
    assert answer.stdout == f"outcome: completed\nrun folder: {options['run-name']}\n"
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("status", "exit_status", "said"),
    [
        ({"state": "failed", "reason": "no node came"}, 0, "outcome: failed, no node came"),
        ({"state": "training", "reason": None}, 0, "outcome: training"),
        ({"state": "completed", "reason": None}, 1, "outcome: completed"),
        (None, 0, "failed before it had a folder"),
    ],
)
def test_a_demo_that_did_not_complete_fails_whatever_flower_says(
    tmp_path: Path, status: dict[str, object] | None, exit_status: int, said: str
) -> None:
    answer = run_demo(tmp_path, status, exit_status)
    assert answer.returncode == 1 and said in answer.stdout, answer.stdout + answer.stderr
