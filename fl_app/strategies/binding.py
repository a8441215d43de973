"""Binds names of sites to nodes: which node may use which name."""

import logging
import re
from collections.abc import Iterable, Mapping

from fl_app.logs import clean_text
from fl_app.options.sections import LONGEST_NAME

log = logging.getLogger(__name__)

SIMULATED = r"site-(\d{1,9})"  # names that simulated nodes give themselves


def fault_of_name(node: int, site: str, bound: Mapping[int, str]) -> str | None:
    """Return why a node may not use a site's name; None if it may.

    With node keys, Flower gives a node id to a public key when it is registered, and accepts messages of that id only
    with a signature of that key. So an id stays the same when a node is started again, and no other node can use it.

    Args:
        node: Flower's id of the node.
        site: the name that the node uses.
        bound: names by node id, from 'federation.sites'; empty: every node may use every name.
    """
    own = bound.get(node)
    if not bound or own == site:
        return None
    shown = clean_text(site, LONGEST_NAME)
    if own is not None:
        return (
            f"Node {node} calls itself '{shown}', 'federation.sites' calls it '{own}': set site=\"{own}\" at the node"
        )
    if site in bound.values():
        return (
            f"Node {node} calls itself '{shown}', which 'federation.sites' gives to another node. If this is that "
            "hospital's new key, run `fl-app sites` again"
        )
    return f"Node {node}, which calls itself '{shown}', is not in 'federation.sites': run `fl-app sites` again"


def warn_of_free_names(sites: Iterable[str]) -> None:
    """Warn that names are not bound to nodes, unless they are those of simulated nodes."""
    if names := sorted(site for site in sites if not re.fullmatch(SIMULATED, site)):
        log.warning(
            "The names of sites are unverified: any node may use the name %s. Bind them: `fl-app sites` writes "
            "'federation.sites'",
            " or ".join(names[:2]),
        )
