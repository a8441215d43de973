"""The node's private key: whose eyes it is for, and whether Flower can use it."""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from fl_app.doctor.finding import Finding


def check_key(file: Path) -> Finding:
    """Tell whether only its owner can read the key, and whether it is of the kind that Flower takes."""
    path = file.expanduser()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except OSError as error:
        problem = os.strerror(error.errno) if error.errno else type(error).__name__
        return Finding("key", "not ready", f"The node's private key cannot be read: {problem}.")
    if not _is_usable(content):
        return Finding(
            "key",
            "not ready",
            "It is no private key that Flower takes. That would be an elliptic-curve key in OpenSSH's form, without a "
            'passphrase, as made by: ssh-keygen -t ecdsa -b 384 -N "". The file that ends in .pub is the public one.',
        )
    if mode & 0o077:
        return Finding("key", "not ready", f"Others may read the node's private key (mode {mode:04o}): chmod 600 it.")
    return Finding("key", "ready", f"Only its owner can read the node's private key (mode {mode:04o}).")


def _is_usable(content: bytes) -> bool:
    try:
        return isinstance(load_ssh_private_key(content, None), EllipticCurvePrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a passphrase
        return False
