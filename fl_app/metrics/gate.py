"""The rule by which sites set off an alarm: one site can raise it, and no site can silence it.

An exported model that knows one hospital's images harms this hospital for good. A model that a false alarm put aside
is still there. So an alarm needs no second site, and what the other sites show does not depend on any one of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Together = Callable[[Sequence[str]], bool]
Alone = Callable[[str, int], bool]


@dataclass(frozen=True)
class Alarm:
    """Which sites set off an alarm.

    Attributes:
        is_of_all: all sites together show it.
        hidden_by: if they do not, the sites without any one of which the others show it.
        alone: sites that show it by themselves.
        rests_on: sites without any one of which there would be no alarm; empty if there is one site in all.
    """

    is_of_all: bool
    hidden_by: tuple[str, ...]
    alone: tuple[str, ...]
    rests_on: tuple[str, ...]

    @property
    def is_of_one(self) -> bool:
        """Whether it is not that of all, and a site that shows it by itself says more than those that hide it."""
        return not self.is_of_all and bool(self.alone) and bool(self.rests_on or not self.hidden_by)

    def doubt(self, does: str) -> str:
        """Name the sites on which the alarm rests, as the end of a reason; `does`: such as `knows`."""
        if not self.rests_on:
            return ""
        names = " and on ".join(self.rests_on)
        alone, site = (" alone", names) if len(self.rests_on) == 1 else ("", "such a site")
        return f". This rests on {names}{alone}: either the model {does} the images of {site}, or {site} lies"


def find_alarm(sites: Sequence[str], is_beyond: Together, is_beyond_alone: Alone) -> Alarm | None:
    """Return what sets off an alarm: all sites, all but one, or a site by itself; None if nothing does.

    Args:
        sites: whose figures are defined.
        is_beyond: tells whether the figures over some sites, at least one, are beyond the limit.
        is_beyond_alone: tells the same of one site's own figures, at a level that allows for so many sites.
    """
    names = sorted(sites)

    def others(some: Sequence[str], site: str) -> list[str]:
        return [name for name in some if name != site]

    def is_hidden_by(some: Sequence[str], site: str) -> bool:
        return len(some) > 1 and is_beyond(others(some, site))

    def is_raised(some: Sequence[str]) -> bool:
        return (
            is_beyond(some)
            or any(is_beyond_alone(site, len(some)) for site in some)
            or any(is_hidden_by(some, site) for site in some)
        )

    if not names or not is_raised(names):
        return None
    is_of_all = is_beyond(names)
    return Alarm(
        is_of_all=is_of_all,
        hidden_by=() if is_of_all else tuple(site for site in names if is_hidden_by(names, site)),
        alone=tuple(site for site in names if is_beyond_alone(site, len(names))),
        rests_on=tuple(site for site in names if len(names) > 1 and not is_raised(others(names, site))),
    )
