"""Keys and certificates: what they hold, who may read them, and that nothing is overwritten or half written."""

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from fl_app.certificates import make_certificates, make_node_key
from fl_app.errors import OptionError, RunFolderError

_FILES = {"ca.key", "ca.crt", "server.key", "server.pem"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def shake_hands(server: Path, authority: Path, name: str) -> None:
    """Meet over TLS as a hospital does, checked as strictly as Python can; raises ssl.SSLError where it fails."""
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here.load_cert_chain(server / "server.pem", server / "server.key")
    there = ssl.create_default_context(cafile=authority / "ca.crt")
    there.verify_flags |= ssl.VERIFY_X509_STRICT
    left, right = socket.socketpair()

    def answer() -> None:
        try:
            here.wrap_socket(left, server_side=True).close()
        except (ssl.SSLError, OSError):
            left.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        there.wrap_socket(right, server_hostname=name).close()
    finally:
        right.close()
        thread.join()


def test_a_client_that_trusts_the_authority_meets_the_server_by_each_of_its_names(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["fl.example.org", "localhost", "127.0.0.1", "::1"], 30)
    for name in ("fl.example.org", "localhost", "127.0.0.1", "::1"):
        shake_hands(tmp_path, tmp_path, name)


def test_a_client_refuses_another_name_and_another_authority(tmp_path: Path) -> None:
    make_certificates(tmp_path / "a", ["fl.example.org"], 30)
    make_certificates(tmp_path / "b", ["fl.example.org"], 30)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(tmp_path / "a", tmp_path / "a", "other.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path / "a", tmp_path / "b", "fl.example.org")


def test_private_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["localhost"], 30)
    make_node_key(tmp_path, "north")
    modes = {path.name: mode(path) for path in tmp_path.iterdir()}
    private, public = ("ca.key", "server.key", "north.key"), ("ca.crt", "server.pem", "north.pub")
    assert modes == dict.fromkeys(private, 0o600) | dict.fromkeys(public, 0o644)


def test_the_certificate_ends_after_the_days_that_were_asked_for(tmp_path: Path) -> None:
    _, certificate = make_certificates(tmp_path, ["localhost"], 30)
    lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert (lasts.days, lasts.seconds) == (30, 3600)


def test_a_certificate_longer_than_its_authority_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--days must end before the authority's own certificate"):
        make_certificates(tmp_path, ["localhost"], 3651)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existing", sorted(_FILES))
def test_an_existing_file_is_never_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("precious")
    with pytest.raises(RunFolderError, match=f"{existing} exists already"):
        make_certificates(tmp_path, ["localhost"], 30)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "precious"


def test_a_renewed_certificate_is_signed_by_the_same_authority(tmp_path: Path) -> None:
    first, old = make_certificates(tmp_path, ["localhost"], 30)
    for name in ("server.key", "server.pem"):
        (tmp_path / name).unlink()
    second, new = make_certificates(tmp_path, ["localhost"], 30)
    assert first.certificate == second.certificate and old != new
    shake_hands(tmp_path, tmp_path, "localhost")


def test_an_authority_whose_files_do_not_belong_together_is_refused(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["localhost"], 30)
    make_certificates(tmp_path / "other", ["localhost"], 30)
    (tmp_path / "other/ca.key").rename(tmp_path / "ca.key")
    (tmp_path / "server.key").unlink()
    with pytest.raises(RunFolderError, match="is not the key of"):
        make_certificates(tmp_path, ["localhost"], 30)


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / ".server.pem.partial").mkdir()  # stands in the way of the last file
    with pytest.raises(RunFolderError, match="Nothing was written"):
        make_certificates(tmp_path, ["localhost"], 30)
    assert [path.name for path in tmp_path.iterdir()] == [".server.pem.partial"]


@pytest.mark.parametrize("host", ["", "a b", "https://fl.example.org", "fl.example.org:443", "300.1.1.1", "-a.org"])
def test_a_host_that_is_none_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(OptionError, match="--host must be a name"):
        make_certificates(tmp_path / "new", [host], 30)
    assert not (tmp_path / "new").exists()


def test_the_server_has_every_name_it_was_given(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["fl.example.org", "10.0.0.7"], 30)
    certificate = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["fl.example.org", "10.0.0.7"]


def test_a_node_key_is_one_that_flower_and_ssh_keygen_read(tmp_path: Path) -> None:
    public = make_node_key(tmp_path, "north")
    private = load_ssh_private_key((tmp_path / "north.key").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name == "secp384r1"
    assert load_ssh_public_key(public.read_bytes()) == private.public_key()
    assert public.read_text().startswith("ecdsa-sha2-nistp384 ") and public.read_text().endswith(" north\n")


def test_a_node_key_is_never_overwritten(tmp_path: Path) -> None:
    public = make_node_key(tmp_path, "north")
    before = public.read_text()
    with pytest.raises(RunFolderError, match=r"north\.key exists already"):
        make_node_key(tmp_path, "north")
    assert public.read_text() == before


@pytest.mark.parametrize("site", ["", "a/b", "über"])
def test_a_name_that_is_not_fit_for_a_site_is_refused(tmp_path: Path, site: str) -> None:
    with pytest.raises(OptionError, match="A site's name must consist of"):
        make_node_key(tmp_path, site)
    assert list(tmp_path.iterdir()) == []
