"""`fl-app supernode` passes everything on to Flower, and ends where Flower's own command would stay, deaf."""

import subprocess
import sys

_PROGRAM = """
import sys, threading
import flwr.supernode.cli
from fl_app.cli.app import run_command_line
def stand_in():
    print(sys.argv)
    threading.Thread(target=threading.Event().wait).start()  # as its HTTP server does
    {then}
flwr.supernode.cli.flower_supernode = stand_in
sys.argv = ["fl-app", "supernode", *{arguments!r}]
run_command_line()
"""


def run(then: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = _PROGRAM.format(then=then, arguments=arguments)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)


def test_a_supernode_that_fails_ends_although_its_http_server_would_go_on() -> None:
    answer = run('raise RuntimeError("500 Internal Server Error")')
    assert answer.returncode == 1 and "500 Internal Server Error" in answer.stderr


def test_all_arguments_reach_flower_as_they_are() -> None:
    arguments = ["--superlink", "fl.example.org:8443", "--node-config", 'site="north"', "--insecure", "--help"]
    answer = run("import os; sys.stdout.flush(); os._exit(7)", *arguments)
    assert answer.returncode == 7, answer.stderr
    assert answer.stdout.strip() == str(["flower-supernode", *arguments])
