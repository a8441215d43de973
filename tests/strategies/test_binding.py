"""Which node may use which site's name, and whose word decides what images a run has."""

import logging
from pathlib import Path

import pytest

from fl_app.data.images import DatasetInfo
from fl_app.errors import FederationError, OptionError
from fl_app.messages.descriptions import SiteDescription
from fl_app.options.sections import OptionValue
from fl_app.strategies.agreement import agree
from fl_app.strategies.roster import Roster
from tests.options import run_config
from tests.strategies.test_roster import COUNTS, INFO, Described, frozen, reasons, site
from tests.test_hospitals import STATED, federate, hospitals, read, write_learnable

OPEN = run_config({"data.source": "folder", "data.image-size": 8}).data
BOUND = {5: "north", 6: "south"}
OTHER = DatasetInfo(("a", "c"), 1, 8)


def of(name: str, info: DatasetInfo) -> SiteDescription:
    return SiteDescription(name, info, COUNTS, COUNTS, COUNTS)


def test_a_node_that_claims_a_bound_name_is_left_out_and_the_right_one_takes_part_though_it_comes_later() -> None:
    roster = Roster(INFO, 1.0, bound=BOUND)
    roster.update(Described({4: site("north"), 6: site("south")}))
    assert roster.names() == {"south": 6}
    assert "Node 4 calls itself 'north', which 'federation.sites' gives to another node" in str(
        reasons(roster)["node-4"]
    )
    roster.update(Described({4: site("north"), 5: site("north"), 6: site("south")}))
    assert roster.names() == {"north": 5, "south": 6}


def test_a_bound_node_keeps_its_own_name_and_a_node_that_is_not_bound_stays_out() -> None:
    roster = Roster(INFO, 1.0, bound=BOUND)
    roster.update(Described({5: site("west"), 6: site("south"), 7: site("east")}))
    assert roster.names() == {"south": 6}
    assert "Node 5 calls itself 'west', 'federation.sites' calls it 'north'" in str(reasons(roster)["north"])
    assert "Node 7, which calls itself 'east', is not in 'federation.sites'" in str(reasons(roster)["node-7"])


def test_an_impostor_does_not_stand_in_the_log_under_the_name_of_a_site_that_is_away() -> None:
    roster = Roster(INFO, 1.0, frozen(site("north"), site("south")), bound=BOUND)
    roster.update(Described({4: site("north", [-1, 2]), 6: site("south")}))
    assert list(roster.unfit) == ["node-4"]


def test_names_that_are_not_bound_are_said_to_be_unverified_but_those_of_simulated_nodes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        Roster(INFO, 1.0, bound=BOUND).update(Described({5: site("north"), 6: site("south")}))
        Roster(INFO, 1.0, bound={}).update(Described({5: site("site-0"), 6: site("site-1")}))
        assert not caplog.records
        Roster(INFO, 1.0, bound={}).update(Described({5: site("north"), 6: site("south")}))
    assert "The names of sites are unverified: any node may use the name north or south" in caplog.text


def test_of_three_sites_the_majority_decides_and_two_that_disagree_stop() -> None:
    three = {1: site("north"), 2: of("west", OTHER), 3: site("south")}
    assert agree(Described(three), 1.0, OPEN, {}) == INFO
    with pytest.raises(FederationError, match="The sites' images do not fit together"):
        agree(Described({1: site("north"), 2: of("west", OTHER)}), 1.0, OPEN, {})


def test_what_the_options_state_decides_between_two_sites() -> None:
    stated = OPEN.model_copy(update={"class_names": ("a", "b")})
    assert agree(Described({1: of("west", OTHER), 2: site("north")}), 1.0, stated, {}) == INFO
    with pytest.raises(FederationError, match=r"No site says what images it has: Site 'west' has other classes than"):
        agree(Described({1: of("west", OTHER)}), 1.0, stated, {})


def test_a_node_has_one_vote_under_its_own_name_only() -> None:
    many = {node: of("west", OTHER) for node in range(10, 15)}
    assert agree(Described({5: site("north"), 6: site("south"), **many}), 1.0, OPEN, {}) == INFO
    liars = {node: of(f"west-{node}", OTHER) for node in range(10, 15)}
    assert agree(Described({5: site("north"), 6: site("south"), **liars}), 1.0, OPEN, BOUND) == INFO


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        ("5=north,5=south", "must name each site once, got the node 5 twice"),
        ("5=north,05=south", "must name each site once, got the node 5 twice"),
        ("5=north,6=north", "must name each site once, got the name north twice"),
        ("north=5", "must hold pairs such as 1234567890=north, as `fl-app sites` prints them, got 'north=5'"),
        ("5=a/b", "must hold pairs such as"),
        ("18446744073709551616=north", "must hold pairs such as"),
        (f"{'9' * 10**4}=north", "must hold pairs such as"),
        ("5", "must hold pairs such as"),
        ("5=north", "sites must name at least as many sites as the first round needs, 2, got 1"),
    ],
)
def test_a_list_that_binds_nothing_is_refused(sites: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        run_config({"federation.sites": sites})


@pytest.mark.usefixtures("undrawn")
def test_a_run_completes_with_the_right_node_though_another_one_claims_its_name_first(tmp_path: Path) -> None:
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    real = hospitals(tmp_path, "north", "south")
    bound: dict[str, OptionValue] = {"federation.sites": "1001=north,1002=south", "classification.num-rounds": 2}
    grid = federate(tmp_path, {**STATED, **bound}, {0: real[0], 1: real[0], 2: real[1]})
    trained = {message.metadata.dst_node_id for message in grid.sent if message.metadata.message_type == "train"}
    counts = read(tmp_path, "status.json")["nodes"]
    assert trained == {1001, 1002}
    contributed = {name: node["contributed"] for name, node in counts.items()}
    assert contributed == {"node-1000": 0, "north": 2, "south": 2}
    assert "Node 1000 calls itself 'north', which 'federation.sites' gives to another" in str(counts["node-1000"])
