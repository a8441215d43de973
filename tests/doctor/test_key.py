"""What doctor says of a node's private key."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fl_app.doctor.installed import check_key


def write_key(file: Path, mode: int = 0o600) -> Path:
    key = ec.generate_private_key(ec.SECP384R1())
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    file.chmod(mode)
    return file


def test_a_key_that_only_its_owner_reads_is_ready(tmp_path: Path) -> None:
    assert check_key(write_key(tmp_path / "node")).verdict == "ready"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_not_ready(tmp_path: Path, mode: int) -> None:
    finding = check_key(write_key(tmp_path / "node", mode))
    assert finding.verdict == "not ready"
    assert f"mode {mode:04o}" in finding.text


def test_a_missing_key_is_told_without_its_path(tmp_path: Path) -> None:
    finding = check_key(tmp_path / "node")
    assert finding.verdict == "not ready"
    assert str(tmp_path) not in finding.text


def test_what_flower_would_not_take_is_not_ready(tmp_path: Path) -> None:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    other = rsa.generate_private_key(65537, 2048)
    contents = {
        "public": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "rsa": other.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        "text": b"no key",
        "empty": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
        assert "no private key that Flower takes" in check_key(tmp_path / name).text, name
