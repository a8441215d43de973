"""`fl-app supernode` passes everything on to Flower, and ends where Flower's own command would stay, deaf."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from flwr.supercore.constant import FORCE_EXIT_TIMEOUT_SECONDS
from PIL import Image
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.cli.supernode import PATIENCE_SECONDS, check_arguments, show_help
from fl_app.errors import OptionError
from fl_app.options.node import NodeConfig
from fl_app.options.sections import describe_section
from tests.faults.deployment import free_port

_PROGRAM = """
import signal, sys, threading, time
import flwr.supernode.cli
import fl_app.cli.supernode
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


@pytest.fixture
def node(tmp_path: Path) -> list[str]:
    """Return the arguments of a node whose folder holds an image, after a broken one."""
    image = tmp_path / "data/one/a.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"no image")
    Image.new("L", (8, 8)).save(image.with_name("b.png"))
    config = f'data-path="{tmp_path / "data"}" site="north" state-dir="{tmp_path / "state"}" max-unreadable-share=0.5'
    return ["--node-config", config, f"--port={free_port()}"]


def test_a_supernode_that_fails_ends_although_its_http_server_would_go_on(node: list[str]) -> None:
    answer = run('raise RuntimeError("500 Internal Server Error")', *node)
    assert answer.returncode == 1 and "500 Internal Server Error" in answer.stderr


_DEAF = """
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, flush=True)
    fl_app.cli.supernode.PATIENCE_SECONDS = 0.2
    signal.signal(signal.SIGTERM, lambda *_: threading.Event().wait())  # as Flower's waits for a thread
    signal.raise_signal(signal.SIGTERM)
"""


def test_one_sigterm_ends_a_supernode_and_its_children_although_flower_waits_for_ever(node: list[str]) -> None:
    answer = run(_DEAF, *node)
    assert answer.returncode == 143, answer.stderr
    assert "did not end within 0.2 s of the signal" in answer.stderr
    assert not psutil.pid_exists(int(answer.stdout.split("\n")[1]))


_WILLING = """
    from flwr.supercore.exit import register_signal_handlers
    register_signal_handlers(event_type=None)  # Flower's own, which ends with status 0
    signal.raise_signal(signal.{name})
    time.sleep(60)
"""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_supernode_that_ends_by_itself_tells_the_signal(node: list[str], name: str, status: int) -> None:
    answer = run(_WILLING.format(name=name), *node)
    assert answer.returncode == status, answer.stderr
    assert "did not end" not in answer.stderr


def test_the_unit_of_systemd_takes_the_status_after_its_own_sigterm_for_success() -> None:
    unit = Path(__file__).parents[2] / "deploy/systemd/fl-app-hospital.service"
    assert "SuccessExitStatus=143" in unit.read_text().splitlines()


def test_flower_would_end_with_status_0_only_after_our_patience() -> None:
    assert FORCE_EXIT_TIMEOUT_SECONDS > PATIENCE_SECONDS


def test_all_arguments_reach_flower_as_they_are(node: list[str]) -> None:
    arguments = ["--superlink", "fl.example.org:8443", *node, "--insecure", "--isolation=process"]
    answer = run("import os; sys.stdout.flush(); os._exit(7)", *arguments)
    assert answer.returncode == 7, answer.stderr
    assert answer.stdout.strip() == str(["flower-supernode", *arguments])


def test_flowers_own_commands_are_found_although_the_environment_is_not_active(
    node: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    answer = run('import os, shutil; print(shutil.which("flower-superexec"), flush=True); os._exit(0)', *node)
    assert answer.stdout.splitlines()[-1].endswith("/flower-superexec"), answer.stderr


def test_the_address_that_is_tried_is_told_once_with_what_checks_the_way(node: list[str]) -> None:
    answer = run("import os; os._exit(0)", *node, "--superlink=fl.example.org:8443")
    (line,) = answer.stderr.splitlines()
    assert "SuperLink at fl.example.org:8443" in line and "`fl-app doctor --superlink fl.example.org:8443" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--superlnk", "x"], "There is no option '--superlnk'. Did you mean '--superlink'?"),
        ([], "--node-config must name folder and hospital"),
        (["--node-config", "data-path=/data site=north"], "--node-config must be like"),
        (["--node-config", 'data-path="/data" site="north" devise="cpu"'], "Did you mean 'device'?"),
        (['--node-config=data-path="/data" site="north" device="tpu"'], "'device' must be"),
        (["--node-config", 'data-path="/nope" site="north"'], "The data folder /nope does not exist"),
    ],
)
def test_wrong_options_of_the_node_are_refused_before_anything_starts(arguments: list[str], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_arguments(arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--auth-supernode-private-key", "must name a file, got 'nowhere.key'"),
        ("--root-certificates", "must name a file, got 'nowhere.key'"),
    ],
)
def test_a_file_that_is_not_there_is_refused(node: list[str], option: str, said: str) -> None:
    check_arguments(node)
    with pytest.raises(OptionError, match=said):
        check_arguments([*node, option, "nowhere.key"])


def test_wrong_files_addresses_and_a_taken_port_end_the_command_with_one_line(node: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty.crt").touch()
    for arguments in (["--root-certificates", str(tmp_path / "empty.crt")], ["--superlink", "localhost"]):
        with pytest.raises(OptionError, match=arguments[0]):
            check_arguments([*node, *arguments])
    with socket.create_server(("127.0.0.1", 0)) as other:
        answer = run("raise RuntimeError", *node, "--host=127.0.0.1", f"--port={other.getsockname()[1]}")
    assert answer.returncode == 2 and "is taken" in answer.stderr and len(answer.stderr.splitlines()) == 1


def test_a_folder_of_a_form_that_no_run_can_read_is_refused(node: list[str], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data/one")
    (tmp_path / "data/a.txt").write_text("no image")
    with pytest.raises(OptionError, match="--node-config names a folder that no run can use"):
        check_arguments(node)


def test_a_folder_of_which_no_image_can_be_read_is_refused(node: list[str], tmp_path: Path) -> None:
    (tmp_path / "data/one/b.png").write_bytes(b"no image either")
    with pytest.raises(
        OptionError, match=r"None of the 2 labelled files in .*; the first one: .*a\.png.*doctor --names"
    ):
        check_arguments(node)


def test_the_help_speaks_of_the_node_and_not_of_flower(capsys: pytest.CaptureFixture[str]) -> None:
    assert CliRunner().invoke(app, ["supernode", "--help"]).exit_code == 0
    show_help()
    shown = capsys.readouterr().out
    assert "Usage: fl-app supernode" in shown
    for name, text in describe_section(NodeConfig):
        assert (f"  {name}=" in shown) == bool(text)
    assert 'device="auto"' in shown and "max-unreadable-share=0.05" in shown and "tell-class-names=false" in shown
    assert "--superlink HOST:PORT" in shown


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(node: list[str]) -> None:
    with pytest.raises(OptionError, match="'device' is 'cuda', but PyTorch finds no GPU"):
        check_arguments([node[0], node[1] + ' device="cuda"'])


def test_a_state_dir_that_cannot_be_made_is_refused(node: list[str], tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(OptionError, match=r"The node cannot write to .*state: File exists. Set 'state-dir'"):
        check_arguments(node)


def test_the_state_dir_is_closed_to_other_users_although_it_was_there(node: list[str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    check_arguments(node)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
