"""Who takes part: sites that describe the run's images, in sane numbers, and the same ones from then on."""

import logging
from collections.abc import Iterable
from typing import Any

import pytest
from flwr.app import Message

from benchmarks.instant_grid import InstantGrid
from fl_app.data.images import DatasetInfo
from fl_app.errors import FederationError
from fl_app.messages.descriptions import SiteDescription, write_description
from fl_app.strategies.roster import Roster

INFO = DatasetInfo(("a", "b"), 1, 8)
COUNTS = [10, 20]


def site(name: str, train: list[int] | None = None) -> SiteDescription:
    return SiteDescription(name, INFO, train or COUNTS, COUNTS, COUNTS)


class Described(InstantGrid):
    """Nodes that describe themselves, by id."""

    def __init__(self, sites: dict[int, SiteDescription]) -> None:
        super().__init__(sites)
        self.sites = sites

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for key in message_ids:
            instruction = self.pending.pop(key)
            yield Message(write_description(self.sites[instruction.metadata.dst_node_id]), reply_to=instruction)


def known(roster: Roster, sites: dict[int, SiteDescription]) -> dict[str, int]:
    roster.update(Described(sites))
    return roster.names()


def reasons(roster: Roster) -> dict[str, str | None]:
    return {name: outcome.reason for name, outcome in roster.unfit.items()}


def frozen(*sites: SiteDescription) -> dict[str, Any]:
    return {one.site: one.counts() for one in sites}


def test_a_site_whose_folder_grew_between_two_runs_is_left_out_and_the_others_go_on() -> None:
    roster = Roster(INFO, 1.0, frozen(site("north"), site("south")))
    assert known(roster, {1: site("north", [10, 25]), 2: site("south"), 3: site("new")}) == {"new": 3, "south": 2}
    assert "Site 'north' had other images when this run began (train 30, now 35)" in str(reasons(roster)["north"])


def test_if_all_sites_that_began_a_run_have_other_images_it_is_not_resumed() -> None:
    roster = Roster(INFO, 1.0, frozen(site("north"), site("south")))
    with pytest.raises(FederationError, match=r"north, south had other images: Site 'north' had other images when"):
        known(roster, {1: site("north", [1, 1]), 2: site("south", [1, 1]), 3: site("new")})


def test_a_node_that_was_started_again_takes_its_place_if_it_describes_the_same_images() -> None:
    roster = Roster(INFO, 1.0)
    assert known(roster, {1: site("north"), 2: site("south")}) == {"north": 1, "south": 2}
    assert known(roster, {2: site("south"), 3: site("north")}) == {"north": 3, "south": 2}
    assert known(roster, {2: site("south"), 4: site("north", [10**9, 5])}) == {"north": 3, "south": 2}
    assert "Site 'north' had other images when this run began" in str(reasons(roster)["node-4"])


def test_of_two_nodes_of_one_name_the_second_is_left_out() -> None:
    roster = Roster(INFO, 1.0)
    assert known(roster, {1: site("north"), 2: site("north"), 3: site("south")}) == {"north": 1, "south": 3}
    assert "Two nodes call themselves 'north'" in str(reasons(roster)["node-2"])


@pytest.mark.parametrize("counts", [[2**31 + 1, 0], [-1, 5], [5], [5, 5, 5]])
def test_counts_that_cannot_be_are_refused(counts: list[int]) -> None:
    roster = Roster(INFO, 1.0)
    assert known(roster, {1: site("north", counts), 2: site("south")}) == {"south": 2}
    assert "Site 'north' sent counts of images that do not fit its 2 classes" in str(reasons(roster)["node-1"])


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "x" * 65, "a..b", "a b", "\x1b[2J"])
def test_a_name_that_is_not_fit_for_a_folder_is_refused(name: str) -> None:
    roster = Roster(INFO, 1.0)
    assert known(roster, {1: site(name), 2: site("south")}) == {"south": 2}
    assert "\x1b" not in str(reasons(roster)["node-1"]) and len(str(reasons(roster)["node-1"])) < 250


def test_the_coordinator_is_told_of_a_site_that_outweighs_all_others(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        known(Roster(INFO, 1.0), {1: site("north"), 2: site("south"), 3: site("west", [10**9, 10**9])})
    assert "Site west says that it has 2000000000 of all 2000000060 training images, so it carries 100 %" in caplog.text


SHARES = {(number, 3): [number, 10] for number in range(3)} | {(number, 2): [number, 15] for number in range(2)}


def simulated(number: int, tested: list[int] | None = None, num_shares: int = 3) -> SiteDescription:
    share = SHARES[number, num_shares] if tested is None else tested
    return SiteDescription(f"site-{number}", INFO, COUNTS, COUNTS, share, num_shares)


def shares_of(number: int, num_shares: int) -> list[int] | None:
    return SHARES.get((number, num_shares), [])


@pytest.mark.parametrize(
    "lie",
    [
        simulated(2, [10**6, 10**6]),
        simulated(2, [10, 2]),
        SiteDescription("site-2", INFO, COUNTS, COUNTS, [10**6, 10**6], 0),
        SiteDescription("site-2", INFO, COUNTS, COUNTS, [0, 15], 1),
        SiteDescription("site-7", INFO, COUNTS, COUNTS, [2, 10], 3),
        SiteDescription("north", INFO, COUNTS, COUNTS, [2, 10], 3),
    ],
)
def test_a_site_that_describes_another_share_of_the_common_test_set_is_left_out(lie: SiteDescription) -> None:
    roster = Roster(INFO, 1.0, shares_of=shares_of)
    assert known(roster, {1: simulated(0), 2: simulated(1), 3: lie}) == {"site-0": 1, "site-1": 2}
    assert f"Site '{lie.site}'" in str(reasons(roster)["node-3"]) and roster.num_test_shares == 3
    assert lie.site not in roster.frozen


def test_a_liar_that_came_first_is_left_out_as_soon_as_the_others_are_known() -> None:
    roster = Roster(INFO, 1.0, shares_of=shares_of)
    lie = simulated(2, [9, 9])
    known(roster, {3: lie})
    assert known(roster, {1: simulated(0), 2: simulated(1), 3: lie}) == {"site-0": 1, "site-1": 2}
    assert "its share of the common test set has 12" in str(reasons(roster)["site-2"])


@pytest.mark.parametrize("shares", [lambda number, num_shares: None, lambda number, num_shares: [7, 7]])
def test_if_the_server_has_no_such_test_set_nobody_is_left_out(shares: Any) -> None:
    roster = Roster(INFO, 1.0, shares_of=shares)
    assert list(known(roster, {1: simulated(0), 2: simulated(1), 3: simulated(2)})) == ["site-0", "site-1", "site-2"]
    assert roster.num_test_shares == 3


def test_a_hospital_that_speaks_of_a_common_test_set_makes_no_other_site_unfit() -> None:
    roster = Roster(INFO, 1.0, shares_of=shares_of)
    assert list(known(roster, {1: simulated(0, num_shares=2), 2: site("north")})) == ["north", "site-0"]
    assert roster.num_test_shares == 0


def test_whether_images_are_held_out_is_said_by_most_sites_that_have_any() -> None:
    def held_out(*counts: tuple[int, int]) -> bool:
        roster = Roster(INFO, 1.0)
        roster.sites = {
            number: SiteDescription(str(number), INFO, [train, 0], [0, validation], COUNTS)
            for number, (train, validation) in enumerate(counts)
        }
        return roster.hold_out()

    assert held_out((5, 1), (5, 1), (5, 0)) and held_out((5, 1), (0, 0), (0, 0))
    assert not held_out((5, 1), (5, 0), (5, 0)) and not held_out((5, 1), (5, 0)) and not held_out((0, 0))
