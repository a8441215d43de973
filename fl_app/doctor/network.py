"""Checks the connection to the SuperLink: port, proxy, TLS, certificate, clock, and the server's version of Flower."""

import json
import os
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

from fl_app.doctor.finding import Finding, Verdict
from fl_app.errors import OptionError

_TIMEOUT_SECONDS = 10.0
_DAYS_TO_RENEW = 30
_LONGEST_ANSWER = 4 * 1024 * 1024
_DAY = 86400.0

# Flower rejects messages signed more than 5 s in the future or 305 s ago by the SuperLink's clock.
_MOST_AHEAD, _MOST_BEHIND = 5.0, 305.0
_WORTH_A_WARNING = 2.5

# OpenSSL's X509_V_ERR_…: each needs another advice.
_NOT_YET_VALID, _EXPIRED, _UNKNOWN_ISSUERS, _OTHER_HOST = 9, 10, (2, 18, 19, 20, 21), (62, 64)


@dataclass(frozen=True)
class Address:
    """The address at which the SuperLink listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Visit:
    """The results of one connection to the SuperLink; None for a step that was not reached.

    Attributes:
        address: of the SuperLink.
        port_problem: why the port cannot be reached.
        tls_problem: why there is no verified connection.
        certificate: of the server, verified, in the form of `SSLSocket.getpeercert`.
        seconds_ahead: how far this machine's clock is ahead of the server's, to about a second.
        flower_version: of the server.
    """

    address: Address
    port_problem: str | None = None
    tls_problem: str | None = None
    certificate: Mapping[str, Any] | None = None
    seconds_ahead: float | None = None
    flower_version: str | None = None


def parse_address(text: str) -> Address:
    """Read HOST:PORT; an IPv6 address stands in brackets.

    Raises:
        OptionError: the text is malformed.
    """
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in text:
        raise OptionError(f"--superlink must be HOST:PORT, such as superlink.example.org:8443, got '{text}'.")
    return Address(host, int(port))


def visit(address: Address, root_certificates: Path | None) -> Visit:
    """Connect to the SuperLink, verify its certificate as flower-supernode does, and ask for time and version.

    Args:
        address: of the SuperLink.
        root_certificates: PEM file of the certificate authority; None: the system's own.
    """
    try:
        connection = socket.create_connection((address.host, address.port), _TIMEOUT_SECONDS)
    except UnicodeError:  # raised for a name with two dots in a row
        return Visit(address, port_problem="its name is malformed")
    except OSError as error:
        return Visit(address, port_problem=_explain(error, address, root_certificates))
    with connection:
        try:
            context = ssl.create_default_context(cafile=root_certificates)
        except OSError:  # check_root_certificates says more
            return Visit(address, tls_problem="the file of --root-certificates cannot be used")
        try:
            with context.wrap_socket(connection, server_hostname=address.host) as secured:
                certificate = secured.getpeercert()
        except ssl.SSLError as error:
            return Visit(address, tls_problem=_explain(error, address, root_certificates))
        except OSError as error:
            return Visit(address, tls_problem=f"the connection broke off in the TLS handshake ({type(error).__name__})")
    seconds_ahead, version = _ask(address, context)
    return Visit(address, None, None, certificate, seconds_ahead, version)


def check_port(found: Visit) -> Finding:
    """Check that the SuperLink's port can be reached."""
    if found.port_problem:
        return Finding("port", "not ready", f"{found.address} cannot be reached: {found.port_problem}.")
    return Finding("port", "ready", f"{found.address} can be reached.")


def check_tls(found: Visit) -> Finding:
    """Check that there is a verified TLS connection."""
    if found.port_problem:
        return Finding("tls", "not checked", "The port cannot be reached.")
    if found.tls_problem:
        return Finding("tls", "not ready", f"No verified TLS connection: {found.tls_problem}.")
    return Finding(
        "tls", "ready", "The connection is encrypted, and the authority has signed the server's certificate."
    )


def check_certificate(found: Visit, now: float) -> Finding:
    """Check the names and the dates of the server's certificate; `now`: unix seconds."""
    if found.certificate is None:
        return Finding("certificate", "not checked", "No verified TLS connection.")
    names = ", ".join(_names(found.certificate))
    days = (ssl.cert_time_to_seconds(found.certificate["notAfter"]) - now) / _DAY
    text = f"Valid for {names}, for {days:.0f} more days."
    if days < _DAYS_TO_RENEW:
        return Finding("certificate", "warning", f"{text} The coordinator must renew it before then.")
    return Finding("certificate", "ready", text)


def check_clock(found: Visit) -> Finding:
    """Compare this machine's clock with the SuperLink's."""
    ahead = found.seconds_ahead
    if ahead is None:
        return Finding("clock", "not checked", "The SuperLink did not tell the time.")
    way = "ahead of" if ahead > 0 else "behind"
    text = f"This clock is {abs(ahead):.0f} s {way} the SuperLink's"
    if ahead > _MOST_AHEAD or -ahead > _MOST_BEHIND:
        limits = f"Flower refuses nodes more than {_MOST_AHEAD:g} s ahead or {_MOST_BEHIND:g} s behind"
        return Finding("clock", "not ready", f"{text}. {limits}: set the clock, preferably by NTP.")
    if abs(ahead) > _WORTH_A_WARNING:
        return Finding("clock", "warning", f"{text}: set it, preferably by NTP.")
    return Finding("clock", "ready", "This clock agrees with the SuperLink's.")


def read_authorities(file: Path) -> list[dict[str, Any]]:
    """Return the certificate authorities in a PEM file, in the form of `SSLSocket.getpeercert`, read as Flower does.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no certificate, or something that is not ASCII.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    text = file.read_bytes().decode("ascii")
    try:
        context.load_verify_locations(cadata=text)
    except ssl.SSLError as error:
        raise ValueError(error.reason) from None
    return context.get_ca_certs()


def check_root_certificates(file: Path, now: float) -> Finding:
    """Check the file of the certificate authority, without a connection; `now`: unix seconds."""
    name = "authority"
    try:
        authorities = read_authorities(file.expanduser())
    except ValueError:
        authorities = []
    except OSError as error:
        return Finding(name, "not ready", f"The file of --root-certificates cannot be read: {error.strerror}.")
    if not authorities:
        return Finding(name, "not ready", "The file of --root-certificates holds no certificate authority in PEM.")
    begins = max(ssl.cert_time_to_seconds(str(one["notBefore"])) for one in authorities)
    ends = min(ssl.cert_time_to_seconds(str(one["notAfter"])) for one in authorities)
    if now < begins:
        days = f"{(begins - now) / _DAY:.1f} days"
        return Finding(name, "not ready", f"It becomes valid in {days}, so this machine's clock is behind: set it.")
    if now > ends:
        return Finding(name, "not ready", f"It expired {(now - ends) / _DAY:.0f} days ago: ask for a new one.")
    days_left = (ends - now) / _DAY
    verdict: Verdict = "warning" if days_left < _DAYS_TO_RENEW else "ready"
    return Finding(name, verdict, f"The certificate authority is valid for {days_left:.0f} more days.")


def check_proxy(address: Address) -> Finding:
    """Check whether the environment names a proxy, which flower-supernode would use and doctor does not."""
    proxies = getproxies()
    named = proxies.get("https") or proxies.get("all")
    if not named or proxy_bypass(str(address)):
        return Finding("proxy", "ready", "The environment names no proxy for the SuperLink.")
    return Finding(
        "proxy",
        "warning",
        "HTTPS_PROXY or ALL_PROXY is set, so flower-supernode uses a proxy; these checks did not. "
        "Add the SuperLink's host to NO_PROXY, unless only the proxy can reach it.",
    )


def _ask(address: Address, context: ssl.SSLContext) -> tuple[float | None, str | None]:
    """Ask the SuperLink's HTTP interface; return how far this clock is ahead, and the version of Flower."""
    connection = HTTPSConnection(address.host, address.port, timeout=_TIMEOUT_SECONDS, context=context)
    try:
        connection.connect()
        asked = time.time()
        connection.request("GET", "/openapi.json")
        answer = connection.getresponse()
        now = (asked + time.time()) / 2
        text = answer.read(_LONGEST_ANSWER)
    except (OSError, HTTPException):
        return None, None
    finally:
        connection.close()
    seconds_ahead, flower_version = None, None
    with suppress(TypeError, ValueError):
        date = parsedate_to_datetime(answer.getheader("Date") or "")
        seconds_ahead = now - date.timestamp() - 0.5  # HTTP cuts fractions of a second off
    if answer.status == 200:
        with suppress(ValueError, LookupError, TypeError):
            found = json.loads(text)["info"]["version"]
            flower_version = found if isinstance(found, str) and len(found) < 30 else None
    return seconds_ahead, flower_version


def _names(certificate: Mapping[str, Any]) -> list[str]:
    return [str(name) for _, name in certificate.get("subjectAltName", ())] or ["no name at all"]


def _explain(error: OSError, address: Address, root: Path | None) -> str:
    """Return why no verified connection was made, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_HOST:
            names = ", ".join(_peer_names(address, root))
            return f"the certificate is valid for {names}, not for {address.host}; use one of these names"
        if error.verify_code in _UNKNOWN_ISSUERS:
            source = "--root-certificates" if root else "this machine's own list; give --root-certificates"
            return f"the certificate is not from an authority in {source}; ask the coordinator for the right file"
        if error.verify_code == _EXPIRED:
            return "the certificate has expired; ask the coordinator to renew it, or set this clock if it is ahead"
        if error.verify_code == _NOT_YET_VALID:
            return "the certificate is not valid yet, so this machine's clock is behind; set it"
        return f"the certificate was rejected ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        if error.reason == "WRONG_VERSION_NUMBER":
            return "the server there answers without TLS; start the SuperLink with its certificate"
        return f"the handshake failed ({error.reason or type(error).__name__})"
    if isinstance(error, socket.gaierror):
        return "this machine's DNS does not know its name; check the name"
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT_SECONDS:g} s, as behind a firewall; open this outbound port"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there, or a firewall rejects this; check the port, and whether the SuperLink runs"
    return os.strerror(error.errno) if error.errno else type(error).__name__


def _peer_names(address: Address, root: Path | None) -> list[str]:
    """Return the names in the server's certificate, which is for another host than `address`."""
    context = ssl.create_default_context(cafile=root)
    context.check_hostname = False
    try:
        with (
            socket.create_connection((address.host, address.port), _TIMEOUT_SECONDS) as connection,
            context.wrap_socket(connection) as secured,
        ):
            return _names(secured.getpeercert() or {})
    except OSError:
        return ["other names"]
