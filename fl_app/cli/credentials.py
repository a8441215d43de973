"""The commands `fl-app certificates` and `fl-app keys`: what several machines need before they can meet."""

from pathlib import Path
from typing import Annotated

import typer

from fl_app.cli.words import Quiet, Voice


def certificates(
    hosts: Annotated[
        list[str],
        typer.Option("--host", metavar="NAME", help="A name or IP address of the server; several times for several."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the files; made where it is missing.")] = Path("certificates"),
    days: Annotated[int, typer.Option(help="How long the server's certificate is valid.", min=1, max=3649)] = 365,
    quiet: Quiet = False,
) -> None:
    """Make the server's certificate, and the authority that signs it where the folder holds none."""
    from fl_app.certificates import make_certificates

    authority, certificate = make_certificates(out, hosts, days)
    say = Voice(quiet).say
    say(f"{out}/ca.crt      give it to every hospital; SHA-256 {authority.fingerprint}")
    say(f"{out}/ca.key      signs further certificates: keep it offline")
    say(f"{out}/server.pem  {', '.join(hosts)}; valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
    say(f"{out}/server.key  stays on the server")


def keys(
    site: Annotated[str, typer.Argument(help="The hospital's name in the federation.")],
    out: Annotated[Path, typer.Option(help="Folder for the files; made where it is missing.")] = Path("."),
    quiet: Quiet = False,
) -> None:
    """Make a hospital's key pair: the coordinator gets the public one, the private one stays."""
    from fl_app.certificates import make_node_key

    public = make_node_key(out, site)
    say = Voice(quiet).say
    say(f"{public.with_suffix('.key')}  stays at the hospital: --auth-supernode-private-key")
    say(f"{public}  goes to the coordinator: flwr supernode register")
