"""The command `fl-app sites`: which node is which hospital, as option `federation.sites`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fl_app.cli.words import AsJson, Voice
from fl_app.errors import FlAppError, OptionError
from fl_app.options.sections import LONGEST_NAME, is_site_name

if TYPE_CHECKING:
    from fl_app.flower import NodeInfo


def sites(
    connection: Annotated[str, typer.Argument(help="The SuperLink: a name in Flower's config.toml.")],
    public_keys: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[KEY.pub]…", help="Only the hospitals with these public keys, named after the files."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the option `federation.sites`, which binds each hospital's name to its registered key.

    Nodes and names come from the SuperLink's registration: `flwr supernode register --name`. Where hospitals were
    registered without a name, or only some of them belong to the study, name the files that `fl-app keys` made.

    Exit status: 1 if the SuperLink does not answer, a key is not registered, or a node has no name.
    """
    from fl_app.certificates import key_fingerprint, read_node_key
    from fl_app.flower import registered_nodes

    named = {read_node_key(path): path for path in public_keys or []}
    bound = bind(registered_nodes(connection), named)
    option = ",".join(f"{node.node_id}={site}" for site, node in bound.items())
    document = {
        site: {"node-id": str(node.node_id), "status": node.status, "key": key_fingerprint(node.public_key)}
        for site, node in bound.items()
    }
    Voice(as_json=as_json).answer({"sites": option, "nodes": document})
    if not as_json:
        typer.echo("# for the study's file, section [federation]")
        for site, known in document.items():
            typer.echo(f"# {site}: {known['status']}, key {known['key']}")
        typer.echo(f'sites = "{option}"')


def bind(registered: Sequence["NodeInfo"], named: Mapping[bytes, Path]) -> dict[str, "NodeInfo"]:
    """Return the registered nodes by the names of their sites, in the order of names.

    Args:
        registered: all nodes that the SuperLink knows, removed ones included.
        named: files by the public key that they hold; empty: every node that is registered under its name.

    Raises:
        FlAppError: a key is not registered, a node has no name, or names do not fit together.
        OptionError: a file has a name that no site may have.
    """
    nodes = [node for node in registered if node.status != "unregistered"]
    known = {node.public_key for node in nodes}
    if unknown := [str(path) for key, path in named.items() if key not in known]:
        raise FlAppError(f"No node is registered with the key of {', '.join(unknown)}: `flwr supernode register` it.")
    found: dict[str, NodeInfo] = {}
    for node in nodes:
        path = named.get(node.public_key)
        if named and path is None:
            continue
        name = path.stem if path is not None else node.name
        if not name:
            raise FlAppError(
                f"Node {node.node_id} is registered without a name. Name the public key of every hospital of the "
                "study: fl-app sites CONNECTION north.pub south.pub"
            )
        if not is_site_name(name):
            raise OptionError(
                f"A site's name must consist of at most {LONGEST_NAME} letters, digits, '_', '-' and single dots, "
                f"got {name!r}. Rename the key's file to <site>.pub."
            )
        if node.name and node.name != name:
            raise FlAppError(f"The key in {path} is registered as '{node.name}', not as '{name}'. Rename the file.")
        if name in found:
            raise FlAppError(
                f"Nodes {found[name].node_id} and {node.node_id} are both registered as '{name}'. Remove the old one: "
                "`flwr supernode unregister`, or name the public keys of the study's hospitals."
            )
        found[name] = node
    if not found:
        raise FlAppError("No node is registered: `flwr supernode register <site>.pub CONNECTION --name <site>`.")
    return dict(sorted(found.items()))
