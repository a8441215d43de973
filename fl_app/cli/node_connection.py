"""Checks the SuperLink's address, the files of the connection, and the node's own port, before Flower uses them."""

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from fl_app.errors import OptionError

if TYPE_CHECKING:
    from fl_app.doctor.network import Address
    from fl_app.flower import NodeConnection


def check_connection(connection: "NodeConnection") -> "Address":
    """Check address and files as they are used to reach the SuperLink.

    Returns:
        The SuperLink's address.

    Raises:
        OptionError: the address is malformed, or a file is missing or holds something else.
    """
    from fl_app.doctor.network import parse_address

    address = parse_address(connection.superlink)
    if connection.root_certificates is not None:
        _check_authority(connection.root_certificates)
    if connection.private_key is not None:
        _check_key(connection.private_key)
    return address


def check_own_port(connection: "NodeConnection") -> None:
    """Check that the node can listen at --host and --port, where its own processes reach it.

    Raises:
        OptionError: the port is taken or not allowed, or the host is no address of this machine.
    """
    host, port = connection.host, connection.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise OptionError(f"--host must be an address of this machine, such as 127.0.0.1, got '{host}'.") from None
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the HTTP server does
                listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OptionError(
                    f"Port {port} of {host}, for the node's own processes, is taken, perhaps by another node. End that "
                    "program, or give this node another --port."
                ) from None
            if error.errno == errno.EADDRNOTAVAIL:
                raise OptionError(
                    f"--host must be an address of this machine, such as 127.0.0.1, got '{host}'."
                ) from None
            if error.errno == errno.EACCES:
                raise OptionError(
                    f"This user may not listen at port {port}. Give the node another --port, 1024 or more."
                ) from None


def _check_authority(file: str) -> None:
    from fl_app.doctor.network import read_authorities

    what = "the coordinator's ca.crt"
    if not Path(file).is_file():  # Flower expands no ~ here
        raise OptionError(f"--root-certificates must name a file, got '{file}': {what}.")
    try:
        read_authorities(Path(file))
    except ValueError:
        raise OptionError(
            f"--root-certificates must name {what}, certificates in PEM without other text than ASCII; '{file}' is no "
            "such file. Ask the coordinator for it."
        ) from None
    except OSError as error:
        raise OptionError(f"--root-certificates: '{file}' cannot be read: {error.strerror}.") from None


def _check_key(file: str) -> None:
    from fl_app.certificates import is_node_key

    path = Path(file).expanduser()
    if not path.is_file():
        raise OptionError(
            f"--auth-supernode-private-key must name a file, got '{file}'. `fl-app keys <site>` makes a key pair."
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OptionError(f"--auth-supernode-private-key: '{file}' cannot be read: {error.strerror}.") from None
    if not is_node_key(content):
        raise OptionError(
            f"--auth-supernode-private-key must name an elliptic-curve private key in OpenSSH's form, without a "
            f"passphrase; '{file}' holds none. `fl-app keys <site>` makes <site>.key, the private one, and <site>.pub."
        )
