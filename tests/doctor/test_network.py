"""What doctor says of the way to the SuperLink, with real servers on loopback."""

import socket
import time
from pathlib import Path

import pytest

from fl_app.doctor import network
from fl_app.doctor.network import Address, Visit, parse_address
from fl_app.errors import OptionError
from tests.doctor.certificates import Authority, issue, make_authority
from tests.doctor.server import serve


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def visit_server(certificate: Path | None, root: Path, ahead: float = 0.0, version: str | None = "1.42.7") -> Visit:
    with serve(certificate, ahead, version) as port:
        return network.visit(Address("127.0.0.1", port), root)


def test_a_sound_server_is_ready_in_every_respect(authority: Authority, tmp_path: Path) -> None:
    found = visit_server(issue(authority, tmp_path / "server.pem", "localhost", "127.0.0.1"), authority.file)
    assert network.check_port(found).verdict == "ready"
    assert network.check_tls(found).verdict == "ready"
    assert network.check_clock(found).verdict == "ready"
    certificate = network.check_certificate(found, time.time())
    assert certificate.verdict == "ready"
    assert certificate.text == "Valid for localhost, 127.0.0.1, for 89 more days."
    assert found.flower_version == "1.42.7"


def test_a_port_where_nobody_listens_is_not_ready_and_nothing_else_is_checked(authority: Authority) -> None:
    with socket.socket() as taken:  # bound, but not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        found = network.visit(Address("127.0.0.1", taken.getsockname()[1]), authority.file)
    assert network.check_port(found).verdict == "not ready"
    assert "nothing listens there" in network.check_port(found).text
    assert network.check_tls(found).verdict == "not checked"
    assert network.check_certificate(found, 0.0).verdict == "not checked"
    assert network.check_clock(found).verdict == "not checked"


def test_a_name_that_no_dns_knows_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", fail)
    assert "DNS" in str(network.visit(Address("superlink.invalid", 8443), None).port_problem)


def test_the_certificate_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = make_authority(tmp_path, "other")
    found = visit_server(issue(other, tmp_path / "server.pem", "127.0.0.1"), authority.file)
    finding = network.check_tls(found)
    assert finding.verdict == "not ready"
    assert "not from an authority in --root-certificates" in finding.text
    assert network.check_certificate(found, time.time()).verdict == "not checked"


def test_a_certificate_for_other_names_is_refused_and_its_names_are_told(authority: Authority, tmp_path: Path) -> None:
    found = visit_server(issue(authority, tmp_path / "server.pem", "superlink.example.org"), authority.file)
    assert found.tls_problem == (
        "the certificate is valid for superlink.example.org, not for 127.0.0.1; use one of these names"
    )


def test_an_expired_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    file = issue(authority, tmp_path / "server.pem", "127.0.0.1", begins_in=-10, days=5)
    assert "has expired" in str(visit_server(file, authority.file).tls_problem)


def test_a_certificate_of_the_future_points_to_the_clock(authority: Authority, tmp_path: Path) -> None:
    file = issue(authority, tmp_path / "server.pem", "127.0.0.1", begins_in=3)
    assert "this machine's clock is behind" in str(visit_server(file, authority.file).tls_problem)


def test_a_certificate_that_ends_soon_is_a_warning(authority: Authority, tmp_path: Path) -> None:
    file = issue(authority, tmp_path / "server.pem", "127.0.0.1", days=20)
    finding = network.check_certificate(visit_server(file, authority.file), time.time())
    assert finding.verdict == "warning"
    assert "19 more days" in finding.text


def test_a_server_without_tls_is_not_ready(authority: Authority) -> None:
    finding = network.check_tls(visit_server(None, authority.file))
    assert finding.verdict == "not ready"
    assert "answers without TLS" in finding.text


def test_a_file_that_is_no_authority_is_named_as_the_cause(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("not a certificate")
    assert "--root-certificates cannot be used" in str(visit_server(None, file).tls_problem)


@pytest.mark.parametrize(
    ("server_ahead", "verdict"), [(-60.0, "not ready"), (-3.5, "warning"), (60.0, "warning"), (400.0, "not ready")]
)
def test_a_clock_that_is_off_is_told(authority: Authority, tmp_path: Path, server_ahead: float, verdict: str) -> None:
    file = issue(authority, tmp_path / "server.pem", "127.0.0.1")
    finding = network.check_clock(visit_server(file, authority.file, ahead=server_ahead))
    assert finding.verdict == verdict
    assert ("ahead of" if server_ahead < 0 else "behind") in finding.text


def test_a_server_that_is_no_superlink_tells_no_version(authority: Authority, tmp_path: Path) -> None:
    file = issue(authority, tmp_path / "server.pem", "127.0.0.1")
    assert visit_server(file, authority.file, version=None).flower_version is None


@pytest.mark.parametrize(
    ("begins_in", "days", "verdict", "words"),
    [
        (-1, 365, "ready", "364 more days"),
        (-1, 10, "warning", "9 more days"),
        (-10, 5, "not ready", "ask for a new one"),
        (3, 365, "not ready", "clock is behind"),
    ],
)
def test_the_authority_is_judged_by_its_dates(
    tmp_path: Path, begins_in: float, days: float, verdict: str, words: str
) -> None:
    finding = network.check_root_certificates(make_authority(tmp_path, "ca", begins_in, days).file, time.time())
    assert finding.verdict == verdict
    assert words in finding.text


def test_a_missing_authority_is_told_without_its_path(tmp_path: Path) -> None:
    finding = network.check_root_certificates(tmp_path / "ca.crt", time.time())
    assert finding.verdict == "not ready"
    assert str(tmp_path) not in finding.text


def test_a_proxy_in_the_environment_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address("superlink.example.org", 8443)
    for name in ("https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert network.check_proxy(address).verdict == "ready"
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    assert network.check_proxy(address).verdict == "warning"
    monkeypatch.setenv("NO_PROXY", "superlink.example.org")
    assert network.check_proxy(address).verdict == "ready"


@pytest.mark.parametrize("text", ["host", "host:", ":1", "host:0", "host:65536", "https://host:8443", "host:x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="must be HOST:PORT"):
        parse_address(text)


def test_addresses_are_read() -> None:
    assert parse_address("superlink.example.org:8443") == Address("superlink.example.org", 8443)
    assert parse_address("[::1]:9") == Address("::1", 9)
    assert str(Address("::1", 9)) == "[::1]:9"
