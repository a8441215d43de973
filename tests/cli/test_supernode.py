"""`fl-app supernode` passes everything on to Flower, and ends where Flower's own command would stay, deaf."""

import subprocess
import sys

import pytest

from fl_app.cli.supernode import check_arguments
from fl_app.errors import OptionError

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


NODE = ["--node-config", 'data-path="/data" site="north"']


def test_a_supernode_that_fails_ends_although_its_http_server_would_go_on() -> None:
    answer = run('raise RuntimeError("500 Internal Server Error")', *NODE)
    assert answer.returncode == 1 and "500 Internal Server Error" in answer.stderr


def test_all_arguments_reach_flower_as_they_are() -> None:
    arguments = ["--superlink", "fl.example.org:8443", *NODE, "--insecure", "--isolation=process"]
    answer = run("import os; sys.stdout.flush(); os._exit(7)", *arguments)
    assert answer.returncode == 7, answer.stderr
    assert answer.stdout.strip() == str(["flower-supernode", *arguments])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--node-config must name folder and hospital"),
        (["--node-config", "data-path=/data site=north"], "--node-config must be like"),
        (["--node-config", 'data-path="/data" site="north" devise="cpu"'], "Did you mean 'device'?"),
        (['--node-config=data-path="/data" site="north" device="tpu"'], "'device' must be"),
        ([*NODE, "--auth-supernode-private-key", "nowhere.key"], "must name a file, got 'nowhere.key'"),
    ],
)
def test_wrong_options_of_the_node_are_refused_before_anything_starts(arguments: list[str], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_arguments(arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_help_is_flowers_own() -> None:
    check_arguments(["--help"])
