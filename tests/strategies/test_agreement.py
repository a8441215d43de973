"""What sites have in common, and what is said where they do not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_app.data.images import DatasetInfo
from fl_app.errors import FederationError
from fl_app.messages.descriptions import SiteDescription
from fl_app.strategies.agreement import common_info, compare

COMMON = DatasetInfo(("benign", "malignant", "normal"), 1, 32)
INFOS = st.builds(
    DatasetInfo,
    st.lists(st.sampled_from("abc"), min_size=1, unique=True).map(tuple),
    st.sampled_from([1, 3]),
    st.sampled_from([8, 16]),
)


def site(name: str, info: DatasetInfo = COMMON) -> SiteDescription:
    counts = [1] * len(info.class_names)
    return SiteDescription(name, info, counts, counts, counts)


def refusal(*sites: SiteDescription) -> str:
    with pytest.raises(FederationError) as caught:
        common_info(sites)
    return str(caught.value)


def test_sites_that_agree_give_what_each_of_them_has() -> None:
    assert common_info([site("north"), site("south")]) == COMMON


def test_a_class_under_another_name_is_named_with_the_site_and_the_likely_one() -> None:
    other = DatasetInfo(("benign", "malignent", "normal"), 1, 32)
    text = refusal(site("north"), site("west", other))
    assert "Compared with 'north', 'west' has other classes than the run: missing malignant" in text
    assert "extra malignent (is 'malignant' meant?)" in text


def test_missing_and_extra_classes_and_other_channels_are_all_named() -> None:
    other = DatasetInfo(("benign", "cyst", "normal"), 3, 32)
    text = refusal(site("a"), site("b", other), site("c"), site("d", DatasetInfo(("benign", "normal"), 1, 32)))
    assert "Compared with 'a', 'c', 'b' has other classes" in text and "missing malignant, extra cyst" in text
    assert "other channels than the run: found 3, expected 1" in text
    assert "Site 'd' has other classes than the run: missing malignant." in text


def test_the_same_classes_in_another_order_are_other_classes() -> None:
    (difference,) = compare(DatasetInfo(("b", "a"), 1, 8), DatasetInfo(("a", "b"), 1, 8))
    assert difference == "other classes than the run: found them in the order b, a, expected a, b"


def test_names_from_outside_are_cut_and_counted() -> None:
    flood = DatasetInfo(("benign", *(f"{'x' * 100}{number}" for number in range(50))), 1, 32)
    text = refusal(site("a"), site("c" * 500, flood))
    assert "and 40 more" in text and len(text) < 1200


@settings(deadline=None)
@given(st.lists(INFOS, min_size=1, max_size=5))
def test_what_more_than_half_of_the_sites_have_decides_and_nothing_else_whatever_their_order(
    infos: list[DatasetInfo],
) -> None:
    sites = [site(f"s{number}", info) for number, info in enumerate(infos)]
    most = [info for info in infos if 2 * infos.count(info) > len(infos)]
    if most:
        assert common_info(sites) == common_info(sites[::-1]) == most[0]
    else:
        assert refusal(*sites) == refusal(*reversed(sites))


@settings(deadline=None)
@given(INFOS, INFOS)
def test_a_difference_is_named_exactly_if_there_is_one(found: DatasetInfo, expected: DatasetInfo) -> None:
    assert bool(compare(found, expected)) == (found != expected)
