"""Makes the keys and certificates of a federation: certificate authority, server certificate, node key pairs."""

import base64
import datetime as dt
import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fl_app.errors import OptionError, RunFolderError
from fl_app.files import write_new_files
from fl_app.options.sections import LONGEST_NAME, is_site_name

_AUTHORITY_DAYS = 3650
_CLOCKS_APART = dt.timedelta(hours=1)  # a hospital's clock may be slow
_HOST_NAME = r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PRIVATE, _PUBLIC = 0o600, 0o644
_KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True)
class Authority:
    """A certificate authority.

    Attributes:
        key: its private key, which signs server certificates.
        certificate: its own certificate, which every hospital gets.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls) -> "Authority":
        """Return a new authority, whose certificate is valid for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fl-app certificate authority")])
        builder = (
            _builder(name, key, _AUTHORITY_DAYS)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    @classmethod
    def read(cls, folder: Path) -> "Authority":
        """Read `ca.key` and `ca.crt`.

        Raises:
            RunFolderError: a file cannot be read, or the key is not the certificate's.
        """
        try:
            key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise RunFolderError(
                f"The authority in {folder} cannot be read: {type(error).__name__}. Restore its ca.key and ca.crt."
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise RunFolderError(
                f"{folder / 'ca.key'} is not the key of {folder / 'ca.crt'}. Restore the file that was replaced."
            )
        return cls(key, certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as pairs of hexadecimal digits that people compare by telephone."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def make_certificates(folder: Path, hosts: Sequence[str], num_days: int) -> tuple[Authority, x509.Certificate]:
    """Write `server.key` and `server.pem`, signed by the authority in `ca.key` and `ca.crt`.

    Without these two files, make a new authority and write them, too.

    Args:
        folder: the folder for the files; created if it is missing.
        hosts: all names and IP addresses of the server; the first one becomes the certificate's subject.
        num_days: days for which the server's certificate is valid.

    Returns:
        The authority and the server's certificate.

    Raises:
        OptionError: a host is neither a name nor an address, or the authority expires before the certificate would.
        RunFolderError: a file exists already, or cannot be read or written. Then no file is left behind.
    """
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if not re.fullmatch(_HOST_NAME, host) or re.fullmatch(r"[0-9.]+", host):
                raise OptionError(
                    f"--host must be a name such as fl.example.org or an IP address, got {host!r}."
                ) from None
            names.append(x509.DNSName(host))
    files: dict[str, tuple[bytes, int]] = {}
    if (folder / "ca.key").exists() and (folder / "ca.crt").exists():
        authority = Authority.read(folder)
    else:
        authority = Authority.create()
        files |= {"ca.key": (_pem(authority.key), _PRIVATE), "ca.crt": (_as_pem(authority.certificate), _PUBLIC)}
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _server_certificate(authority, key, hosts[0], names, num_days)
    files |= {"server.key": (_pem(key), _PRIVATE), "server.pem": (_as_pem(certificate), _PUBLIC)}
    write_new_files(folder, files)
    return authority, certificate


def make_node_key(folder: Path, site: str) -> Path:
    """Write a key pair for a node, `<site>.key` and `<site>.pub`: ECDSA on P-384 in OpenSSH's formats, as Flower needs.

    Args:
        folder: the folder for the files; created if it is missing.
        site: the hospital's name in the federation.

    Returns:
        The path of the public key.

    Raises:
        OptionError: the name is not allowed for a site.
        RunFolderError: a file exists already or cannot be written. Then no file is left behind.
    """
    if not is_site_name(site):
        raise OptionError(
            f"A site's name must consist of at most {LONGEST_NAME} letters, digits, '_', '-' and single dots, "
            f"got {site!r}."
        )
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    line = public + f" {site}\n".encode()
    write_new_files(folder, {f"{site}.key": (private, _PRIVATE), f"{site}.pub": (line, _PUBLIC)})
    return folder / f"{site}.pub"


def is_node_key(content: bytes) -> bool:
    """Tell whether a file's content is an elliptic-curve private key in OpenSSH's form without a passphrase."""
    try:
        return isinstance(serialization.load_ssh_private_key(content, None), ec.EllipticCurvePrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a passphrase
        return False


def read_node_key(path: Path) -> bytes:
    """Read a node's public key as `make_node_key` writes it, and return it as Flower keeps it: PEM.

    Raises:
        OptionError: the file cannot be read, or holds no public key for a node.
    """
    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no public key in OpenSSH's format"
        raise OptionError(f"The public key {path} cannot be read: {reason}.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise OptionError(f"{path} must hold a public key as `fl-app keys` makes it (ECDSA), got another kind.")
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_fingerprint(public_key: bytes) -> str:
    """Return the SHA-256 of a PEM public key as `ssh-keygen -lf <site>.pub` prints it; "unknown" if it is no key."""
    try:
        key = serialization.load_pem_public_key(public_key)
        line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    except (ValueError, UnsupportedAlgorithm):
        return "unknown"
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _server_certificate(
    authority: Authority, key: ec.EllipticCurvePrivateKey, host: str, names: list[x509.GeneralName], num_days: int
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])  # the SANs hold the whole name
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(subject, key, num_days)
        .issuer_name(authority.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(signer, critical=False)
    )
    certificate = builder.sign(authority.key, hashes.SHA256())
    ends = authority.certificate.not_valid_after_utc
    if certificate.not_valid_after_utc > ends:
        raise OptionError(
            f"--days must end before the authority's own certificate does, on {ends:%Y-%m-%d}, got {num_days}."
        )
    return certificate


def _builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey, num_days: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + dt.timedelta(days=num_days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in allowed for name in _KEY_USAGES})


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _as_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
