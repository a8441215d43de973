"""A wrong address, file or port of a node is one clear error before Flower starts, which would show a traceback."""

import socket
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from fl_app.certificates import make_certificates, make_node_key
from fl_app.cli.node_connection import check_connection, check_own_port
from fl_app.errors import OptionError
from fl_app.flower import read_connection

ARGUMENTS = ["--superlink", "localhost:8443"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files of a federation, and files that are no such files."""
    make_certificates(tmp_path, ["localhost"], 30)
    make_node_key(tmp_path, "north")
    pem, openssh = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    no = serialization.NoEncryption()
    (tmp_path / "empty").touch()
    (tmp_path / "ed25519").write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(pem, openssh, no))
    (tmp_path / "umlaut").write_text("Universitätsklinik\n" + (tmp_path / "ca.crt").read_text(), encoding="utf-8")
    return tmp_path


def refusal(*arguments: str) -> str:
    with pytest.raises(OptionError) as caught:
        check_connection(read_connection(arguments))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", ["empty", "server.key", "north.pub", "umlaut", "nowhere", "."])
def test_a_file_that_holds_no_authority_is_refused(folder: Path, file: str) -> None:
    told = refusal(*ARGUMENTS, f"--root-certificates={folder / file}")
    assert told.startswith("--root-certificates must name") and str(folder / file) in told and "ca.crt" in told


@pytest.mark.parametrize("file", ["empty", "ca.crt", "server.key", "north.pub", "ed25519", "nowhere", "."])
def test_a_file_that_holds_no_key_of_a_node_is_refused(folder: Path, file: str) -> None:
    told = refusal(*ARGUMENTS, "--auth-supernode-private-key", str(folder / file))
    assert told.startswith("--auth-supernode-private-key must name") and str(folder / file) in told
    assert "fl-app keys" in told


@pytest.mark.parametrize("text", ["localhost", "localhost:", ":8443", "https://localhost:8443", "localhost:https", ""])
def test_an_address_without_host_or_port_is_refused(text: str) -> None:
    told = refusal("--superlink", text)
    assert told.startswith("--superlink must be HOST:PORT") and f"got '{text}'" in told


def test_the_files_that_the_commands_make_pass(folder: Path) -> None:
    arguments = ["--root-certificates", str(folder / "ca.crt"), "--auth-supernode-pri", str(folder / "north.key")]
    assert str(check_connection(read_connection([*ARGUMENTS, *arguments]))) == "localhost:8443"


def test_a_port_that_is_taken_is_refused_and_one_that_is_free_again_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        connection = read_connection([*ARGUMENTS, "--host", "127.0.0.1", "--port", str(port)])
        with pytest.raises(OptionError, match=f"Port {port} of 127.0.0.1, .*, is taken.* another --port"):
            check_own_port(connection)
    check_own_port(connection)


@pytest.mark.parametrize("host", ["203.0.113.1", "no..name"])
def test_a_host_that_is_not_this_machine_is_refused(host: str) -> None:
    with pytest.raises(OptionError, match=f"--host must be an address of this machine, .*, got '{host}'"):
        check_own_port(read_connection([*ARGUMENTS, "--host", host]))
