"""Whose test images sites measure: shares of one set that a simulation's nodes have in common, or their own parts."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from fl_app.messages.descriptions import SiteDescription

SharesOf = Callable[[int, int], Sequence[int] | None]  # (number of the share, of how many) -> images of each class

_MOST = 3  # times the test images of all other sites together
_MOST_OF_TWO = 10


def unknown_shares(number: int, num_shares: int) -> None:
    """Return None: nothing is known of a common test set."""
    return


def agreed_shares(sites: Iterable[SiteDescription]) -> int:
    """Return into how many shares most sites say that a common test set is split; 0: they measure their own parts.

    If as many sites say something else, they measure their own parts, else as many shares as there are sites.
    """
    votes = Counter(site.num_test_shares for site in sites)
    num_sites = votes.total()
    return max(votes, key=lambda number: (votes[number], number == 0, number == num_sites), default=0)


def false_shares(sites: Iterable[SiteDescription], num_shares: int, shares_of: SharesOf) -> dict[str, str]:
    """Return the sites whose test images are not their share of the common set, each with the reason.

    If no site has its share of the set that is known here, the set is another one, and nothing is found.

    Args:
        sites: all that are known.
        num_shares: from `agreed_shares`, at least 1.
        shares_of: returns the images of each class of a share; None if the set is not known.
    """
    found: dict[str, str] = {}
    fitting = 0
    for site in sites:
        named = re.fullmatch(r"site-(\d{1,9})", site.site)
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


def measures_most(num_images: Mapping[str, float]) -> str | None:
    """Return the site that has so many of all test images that the figures over them are its word; None: there is none.

    It has more than three quarters of them, or of two sites more than ten times as many as the other. Of 20,000 splits
    of nine or ten equal classes among ten sites, drawn with Dirichlet's alpha 0.1, none leaves a site with so many; of
    those of two equal classes 2.5 % do.

    Args:
        num_images: test images by site.
    """
    if len(num_images) < 2:
        return None
    largest = max(num_images, key=lambda site: num_images[site])
    others = sum(num_images.values()) - num_images[largest]
    factor = _MOST_OF_TWO if len(num_images) == 2 else _MOST
    return largest if num_images[largest] > factor * others else None
