"""Checks that sites agree on classes, channels, image size, and on which test images they measure."""

import difflib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fl_app.data.images import DatasetInfo
from fl_app.errors import FederationError, RejectedReply
from fl_app.logs import clean_text
from fl_app.messages.descriptions import SiteDescription, read_description
from fl_app.messages.records import CONFIG, DESCRIBE
from fl_app.options.images import DataOptions
from fl_app.options.sections import LONGEST_NAME
from fl_app.strategies.outcomes import shorten
from fl_app.strategies.transport import send_and_receive

log = logging.getLogger(__name__)

SharesOf = Callable[[int, int], Sequence[int] | None]  # (number of the share, of how many) -> images of each class

_LONGEST_NAME = 40
_MOST_NAMES = 10


def ask_descriptions(grid: Grid, nodes: Sequence[int], deadline_seconds: float) -> Iterator[Message]:
    """Ask nodes what images they have, and yield the replies as they arrive."""
    record = RecordDict({CONFIG: ConfigRecord()})
    messages = [Message(record, dst_node_id=node, message_type=DESCRIBE) for node in nodes]
    yield from send_and_receive(grid, messages, deadline_seconds)


def agree(grid: Grid, deadline_seconds: float, stated: DataOptions, bound: Mapping[int, str]) -> DatasetInfo:
    """Ask all connected nodes for their images' classes, channels and size; return those that the sites share.

    Each site has one vote. A node has none if it fails to answer, contradicts the options or may not use its name; it
    cannot take part in the rounds either. Nor can a site that differs from more than half of three sites or more.

    Args:
        grid: Flower's connection to the nodes.
        deadline_seconds: how long nodes may take to answer.
        stated: options that may state classes, channels and size.
        bound: names by node id, from 'federation.sites'; empty: every node may use every name.

    Raises:
        FederationError: sites disagree (the message names each one and its difference), or none answers.
    """
    voters: dict[int, SiteDescription] = {}
    problems: list[str] = []
    for reply in ask_descriptions(grid, list(grid.get_node_ids()), deadline_seconds):
        if reply.has_error():
            problems.append(shorten(reply.error.reason))
            continue
        try:
            described = read_description(reply)
            for name in described.info.class_names:
                if len(name) > LONGEST_NAME or not name:
                    raise RejectedReply(
                        f"site {described.site[:50]!r} has a class name of {len(name)} characters, {LONGEST_NAME} are "
                        "allowed"
                    )
            if fault := _fault_of_vote(reply.metadata.src_node_id, described, stated, bound):
                raise RejectedReply(fault)
            voters[reply.metadata.src_node_id] = described
        except RejectedReply as error:
            problems.append(shorten(str(error)))
    for problem in problems:
        log.warning("A node could not say what images it has: %s", problem)
    found = list({voters[node].site: voters[node] for node in sorted(voters, reverse=True)}.values())
    if not found:
        reasons = "; ".join(sorted(set(problems))) or "none answered before the deadline"
        raise FederationError(f"No site says what images it has: {reasons}.")
    agreed = common_info(found)
    num_like_it = sum(site.info == agreed for site in found)
    message = "%d of %d sites have the classes %s; %d channels"
    log.info(message, num_like_it, len(found), _list(agreed.class_names), agreed.num_channels)
    return agreed


def common_info(sites: Sequence[SiteDescription]) -> DatasetInfo:
    """Return the info that all sites share, or else more than half of them; so one of two decides nothing.

    Args:
        sites: at least one.

    Raises:
        FederationError: too many disagree.
    """
    ordered = sorted(sites, key=lambda site: site.site)
    most_common = Counter(site.info for site in ordered).most_common(1)[0][0]
    like_it = [site.site[:50] for site in ordered if site.info == most_common]
    differing = [
        f"{site.site[:50]!r} has {'; '.join(compare(site.info, most_common))}"
        for site in ordered
        if site.info != most_common
    ]
    if 2 * len(like_it) > len(ordered):
        for difference in differing:
            log.warning("A site is left out: compared with %s, %s", ", ".join(map(repr, like_it)), difference)
        return most_common
    if differing:
        raise FederationError(
            f"The sites' images do not fit together. Compared with {', '.join(map(repr, like_it))}, "
            f"{'. Site '.join(differing)}. Change the folders, or state 'data.class-names' and 'data.num-channels': "
            "then a site may lack a class, and grey and RGB images are converted."
        )
    return most_common


def _fault_of_vote(node: int, site: SiteDescription, stated: DataOptions, bound: Mapping[int, str]) -> str | None:
    """Return why a node has no vote: its name is that of another node, or it contradicts the options."""
    if fault := fault_of_name(node, site.site, bound):
        return fault
    expected = DatasetInfo(
        stated.class_names or site.info.class_names,
        stated.num_channels or site.info.num_channels,
        stated.image_size or site.info.image_size,
    )
    differences = compare(site.info, expected)
    return f"Site {site.site[:50]!r} has {'; '.join(differences)}" if differences else None


def compare(found: DatasetInfo, expected: DatasetInfo) -> list[str]:
    """Return how a site differs, to follow "Site x has"; empty if it does not."""
    differences = []
    if found.class_names != expected.class_names:
        differences.append(f"other classes than the run: {_compare_names(found.class_names, expected.class_names)}")
    if found.num_channels != expected.num_channels:
        differences.append(f"other channels than the run: found {found.num_channels}, expected {expected.num_channels}")
    if found.image_size != expected.image_size:
        differences.append(f"another image size than the run: found {found.image_size}, expected {expected.image_size}")
    return differences


def unknown_shares(number: int, num_shares: int) -> None:
    """Return None: no common test set is known."""
    return


def agreed_shares(sites: Iterable[SiteDescription]) -> int:
    """Return the number of shares of the common test set that most sites report; 0: they measure their own parts.

    A tie gives 0 if some of the tied votes are 0, else the number of sites.
    """
    votes = Counter(site.num_test_shares for site in sites)
    num_sites = votes.total()
    return max(votes, key=lambda number: (votes[number], number == 0, number == num_sites), default=0)


def false_shares(sites: Iterable[SiteDescription], num_shares: int, shares_of: SharesOf) -> dict[str, str]:
    """Return the sites whose test images are not their share of the common set, each with the reason.

    If no site matches its share, the sites use another test set than `shares_of` knows, and no site is returned.

    Args:
        sites: all known sites.
        num_shares: from `agreed_shares`, at least 1.
        shares_of: returns the images of each class of a share; None if the set is not known.
    """
    found: dict[str, str] = {}
    fitting = 0
    for site in sites:
        named = re.fullmatch(SIMULATED, site.site)
        number = int(named[1]) if named else num_shares
        if number >= num_shares:
            found[site.site] = f"Site '{site.site}' is none of the {num_shares} nodes that share the common test set"
            continue
        share = shares_of(number, num_shares)
        if share is None:
            return {}
        if list(share) == site.test_counts:
            fitting += 1
            continue
        found[site.site] = (
            f"Site '{site.site}' says that it measures {sum(site.test_counts)} test images; its share of the common "
            f"test set has {sum(share)}{' in other classes' if sum(share) == sum(site.test_counts) else ''}"
        )
    return found if fitting else {}


def _compare_names(found: Sequence[str], expected: Sequence[str]) -> str:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if not missing and not extra:
        return f"found them in the order {_list(found)}, expected {_list(expected)}"
    parts = [f"missing {_list(missing)}"] if missing else []
    if extra:
        close = difflib.get_close_matches(extra[0], missing, n=1)
        parts.append(f"extra {_list(extra)}" + (f" (is '{close[0][:_LONGEST_NAME]}' meant?)" if close else ""))
    return ", ".join(parts)


def _list(names: Sequence[str]) -> str:
    """List names, at most 10, each cut to 40 characters: a site may send any text."""
    shown = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in names[:_MOST_NAMES]]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


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
