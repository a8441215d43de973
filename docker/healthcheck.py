"""Ask a service whether it is there: `FL_APP_HEALTH` holds its address, and for https the certificate to trust.

`https://127.0.0.1:8000/health /secrets/ca.crt`, `http://127.0.0.1:9094/health`, or `tcp://127.0.0.1:9095`, where an
open port has to do.
"""

import os
import socket
import ssl
import sys
import urllib.request
from urllib.parse import urlsplit

_SECONDS = 5.0


def check(address: str, certificate: str | None = None) -> None:
    """Raise OSError unless the service at an address answers.

    Args:
        address: a URL with the scheme http, https or tcp.
        certificate: file of the certificate authority that an https address is trusted by.
    """
    parts = urlsplit(address)
    if parts.scheme == "tcp":
        socket.create_connection((parts.hostname or "", parts.port or 0), _SECONDS).close()
        return
    trust = ssl.create_default_context(cafile=certificate) if certificate else None
    urllib.request.urlopen(address, timeout=_SECONDS, context=trust).close()


def main() -> None:
    """Exit with 0 if the service answers, else with 1 and the reason."""
    words = os.environ.get("FL_APP_HEALTH", "").split()
    if not words:
        sys.exit("FL_APP_HEALTH names no address.")
    try:
        check(*words)
    except (OSError, ValueError) as error:
        sys.exit(f"{words[0]}: {error}")


if __name__ == "__main__":
    main()
