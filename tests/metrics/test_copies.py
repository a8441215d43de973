"""The verdict on copies: laws, false alarms, too few images, and one site that lies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from fl_app.metrics.copies import DETECTED, LEVEL, chance_of, copies_fault, judge_copies, most_copied
from fl_app.metrics.intervals import wilson
from fl_app.metrics.nearest import DRAWN, FEWEST_TRAIN, SPACES, blank_copies, copy_sums

Sums = dict[str, NDArray[np.float64]]
DESCRIBED = {"train": 80, "validation": 30}


def site(
    copies: int, repeated: int, generated: int = 200, held_out: int = 100, spaces: tuple[str, ...] = SPACES
) -> Sums:
    """Return the counts of a site, the same in these spaces; in another one there are no near copies."""
    sums = blank_copies()
    sums[DRAWN] = np.full(2, float(generated))
    for space in SPACES:
        found = (generated, copies, held_out, repeated) if space in spaces else (generated, 0, held_out, 0)
        sums[f"copies/{space}/counts"] = np.array(found, dtype=np.float64)
    return sums


def measured(seed: int = 0) -> Sums:
    """Return sums as a node sends them."""
    generator = np.random.default_rng(seed)
    sums = blank_copies()
    sums[DRAWN] = np.full(2, 40.0)
    for space in SPACES:
        sets = [generator.normal(size=(number, 9)) for number in (40, DESCRIBED["train"], DESCRIBED["validation"])]
        sums |= {f"copies/{space}/{key}": value for key, value in copy_sums(*sets).items()}
    return sums


counts = st.integers(0, 30)


@given(counts, counts, counts, counts)
@settings(deadline=None)
def test_of_one_site_the_chance_is_that_of_fishers_exact_test(a: int, b: int, c: int, d: int) -> None:
    expected = fisher_exact([[a, b], [c, d]], alternative="greater").pvalue
    assert chance_of([(a + b, a, c + d, c)]) == pytest.approx(expected, rel=1e-9)


def test_a_site_that_claims_any_number_of_held_out_images_costs_nothing() -> None:
    assert chance_of([(200, 3, 1e14, 1e14)]) == pytest.approx(1.0)
    assert judge_copies({"a": site(3, 0), "b": site(0, 10**14, held_out=10**14)}).verdict != "exceeded"


def test_sites_are_not_compared_with_one_another() -> None:
    with_copies, without = (200, 180, 10, 9), (200, 0, 200, 0)  # one has many natural copies, and few held-out images
    pooled = (400, 180, 210, 9)
    assert chance_of([pooled]) < 1e-9 and chance_of([with_copies, without]) > 0.3


def test_the_order_of_sites_changes_nothing() -> None:
    parts = {"a": site(9, 1), "b": site(30, 2, held_out=50), "c": site(0, 0)}
    one, other = judge_copies(parts), judge_copies(dict(reversed(parts.items())))
    assert one == other


@pytest.mark.parametrize("spaces", [SPACES, ("pixels",), ("unet",)])
def test_more_copies_than_the_held_out_images_explain_are_exceeded_in_whichever_space(spaces: tuple[str, ...]) -> None:
    found = judge_copies({name: site(40, 1, spaces=spaces) for name in "abc"})
    assert found.verdict == "exceeded" and "120 of 600 generated images are near copies" in found.reason
    assert {name for name, one in found.spaces.items() if one.verdict == "exceeded"} == set(spaces)
    assert found.num_drawn == 600


@pytest.mark.parametrize(("rate", "verdict"), [(0.0, "passed"), (0.02, "passed"), (0.3, "undecided")])
def test_as_many_copies_as_among_held_out_images_are_no_excess(rate: float, verdict: str) -> None:
    found = judge_copies({name: site(round(200 * rate), round(100 * rate)) for name in "abc"})
    assert found.verdict == verdict, found.reason
    share = found.spaces["pixels"].generated.share
    assert share == pytest.approx(rate) and found.spaces["pixels"].chance is not None


def test_false_alarms_are_rarer_than_the_level() -> None:
    generator = np.random.default_rng(0)
    draws = 2000
    alarms = 0
    for _ in range(draws):
        rate = generator.uniform(0, 0.5, 3)
        tables = [
            (200, generator.binomial(200, p), n, generator.binomial(n, p))
            for p, n in zip(rate, (20, 50, 9), strict=True)
        ]
        alarms += chance_of(tables) <= LEVEL
    assert alarms <= 6  # 2 are expected at most; more than 6 have a chance of 0.005


@pytest.mark.parametrize(("generated", "verdict"), [(200, "passed"), (60, "passed"), (20, "undecided")])
def test_if_few_generated_images_are_near_copies_at_all_few_held_out_images_are_enough(
    generated: int, verdict: str
) -> None:
    assert judge_copies({"a": site(0, 0, generated, 5)}).verdict == verdict  # 0 of 20: up to 17 % may be copies


@pytest.mark.parametrize(
    "tables",
    [
        {"a": (200, 24, 40, 0)},
        {"a": (200, 30, 40, 0)},
        {"a": (1000, 80, 78, 0)},
        {"a": (200, 80, 5, 0)} | dict.fromkeys("bcde", (200, 0, 15, 0)),
        {"a": (200, 21, 5, 0), "b": (200, 21, 5, 0), "c": (200, 0, 5, 0)},
        {"a": (200, 21, 5, 0), "b": (200, 21, 5, 0), "c": (200, 0, 10**5, 0)},
        {f"site-{number}": (200, 8, 10, 0) for number in range(10)},  # 40 % of what it draws, spread over ten sites
        dict.fromkeys("abc", (1, 0, 67, 1)),
    ],
    ids=str,
)
def test_copies_that_few_held_out_images_cannot_prove_do_not_pass(
    tables: dict[str, tuple[int, int, int, int]],
) -> None:
    parts = {name: site(k, r, generated=n, held_out=m) for name, (n, k, m, r) in tables.items()}
    found = judge_copies(parts)
    assert found.verdict == "undecided", found.reason
    assert "hold out more images" in found.reason or "more than expected" in found.reason


table = st.tuples(st.integers(1, 300), st.floats(0, 1), st.integers(0, 200), st.floats(0, 1)).map(
    lambda one: (one[0], round(one[0] * one[1]), one[2], round(one[2] * one[3]))
)


@given(st.lists(table, min_size=1, max_size=6), table)
@settings(deadline=None)
def test_no_further_site_can_lower_what_may_be_copied(
    tables: list[tuple[int, int, int, int]], other: tuple[int, int, int, int]
) -> None:
    assert most_copied([*tables, other]) >= most_copied(tables) - 1e-12


def test_without_look_alikes_all_of_the_bound_is_that_of_the_copies() -> None:
    assert most_copied([(200, 7, 40, 0)]) == pytest.approx(wilson(7 / 200, 200, 0.95)[1])
    assert most_copied([(200, 7, 0, 0)]) == most_copied([(200, 7, 40, 0)])
    assert most_copied([(200, 0, 78, 20)]) == 0.0


@pytest.mark.parametrize(("share", "sites"), [(0.1, 1), (0.15, 1), (0.15, 5), (0.3, 10)])
@pytest.mark.parametrize("held_out", [5, 20, 40, 66, 145])
def test_a_model_that_repeats_a_tenth_or_more_rarely_passes(share: float, sites: int, held_out: int) -> None:
    generator = np.random.default_rng(0)
    passed = 0
    for _ in range(40):
        copies = generator.binomial(200, share / sites, sites)
        parts = {f"site-{place}": site(int(one), 0, held_out=held_out) for place, one in enumerate(copies)}
        passed += judge_copies(parts).verdict == "passed"
    assert passed <= (4 if share > DETECTED else 6)


def test_an_excess_that_is_likely_but_not_beyond_doubt_does_not_pass() -> None:
    found = judge_copies({name: site(9, 0, generated=500, held_out=100) for name in "ab"})
    assert found.verdict == "undecided" and "more than expected, but not beyond doubt" in found.reason


def test_a_site_that_claims_look_alikes_does_not_turn_a_likely_excess_of_others_into_a_pass() -> None:
    others = {"north": site(4, 0), "south": site(4, 0)}  # a chance of 0.04
    for hiding in (site(0, 4), site(0, 100)):  # which makes it 0.6 or more
        assert judge_copies({**others, "hiding": hiding}).verdict == "undecided"
    assert judge_copies({"north": site(2, 0), "south": site(2, 0), "west": site(0, 4)}).verdict == "passed"


def test_images_of_a_site_with_too_few_training_images_are_not_counted() -> None:
    generator = np.random.default_rng(0)
    for number, counted in ((FEWEST_TRAIN - 1, 0), (FEWEST_TRAIN, 200)):
        train, held_out = generator.normal(size=(number, 9)), generator.normal(size=(60, 9))
        drawn = train[generator.integers(0, number, 200)] + 1e-6
        sums = blank_copies() | {DRAWN: np.full(2, 200.0)}
        for space in SPACES:
            sums |= {f"copies/{space}/{key}": value for key, value in copy_sums(drawn, train, held_out).items()}
        assert sums["copies/pixels/counts"][1] == counted
        assert copies_fault(sums, {"train": number, "validation": 60}, 200) is None
        found = judge_copies({"a": sums})
        assert found.verdict == ("exceeded" if counted else "undecided")
        assert counted or f"no site has {FEWEST_TRAIN} training images" in found.reason


def test_a_site_that_was_not_compared_is_named() -> None:
    small = blank_copies() | {DRAWN: np.full(2, 200.0)}
    found = judge_copies({"a": site(0, 0), "small": small})
    assert found.verdict == "passed" and "not compared (fewer than 12" in found.reason and "): small" in found.reason


def test_without_held_out_images_nothing_is_decided_or_defined() -> None:
    found = judge_copies({"a": site(150, 0, held_out=0)})
    assert found.verdict == "undecided" and "hold out more images" in found.reason
    one = found.spaces["pixels"]
    assert (one.chance, one.held_out.share, one.ratio, one.nearer) == (None, None, None, None)
    assert one.generated.copies == 150
    assert judge_copies({}).verdict == "undecided"


def test_a_model_that_draws_no_numbers_is_not_defined() -> None:
    sums = blank_copies()
    sums[DRAWN] = np.array([200.0, 0.0])
    found = judge_copies({"a": sums, "b": sums})
    assert found.verdict == "undecided"
    assert found.reason == "not defined: the model drew values that are not finite"


def test_a_network_without_features_is_not_defined_and_pixels_still_decide() -> None:
    def without(copies: int) -> Sums:
        sums = site(copies, 0, spaces=("pixels",))
        return sums | {"copies/unet/counts": np.zeros(4)}

    quiet = judge_copies({name: without(0) for name in "abc"})
    assert quiet.verdict == "undecided" and "the network's features are not finite" in quiet.reason
    assert quiet.spaces["pixels"].verdict == "passed"
    assert judge_copies({name: without(50) for name in "abc"}).verdict == "exceeded"


def test_one_site_of_three_puts_a_model_aside_and_is_named() -> None:
    quiet, loud = site(1, 1), site(200, 0)
    found = judge_copies({"a": quiet, "b": quiet, "c": loud})
    assert found.verdict == "exceeded"
    assert "This rests on c alone: either the model repeats the images of c, or c lies" in found.reason


@pytest.mark.parametrize(("honest", "number"), [(site(60, 0, 60, 40), 2), (site(60, 0, held_out=10), 4)])
@pytest.mark.parametrize("hiding", [site(0, 40, 60, 40), site(0, 10, held_out=10), site(0, 0), blank_copies()])
def test_one_site_of_three_or_more_cannot_free_a_model(honest: Sums, number: int, hiding: Sums) -> None:
    assert judge_copies({**{f"site-{one}": honest for one in range(number)}, "liar": hiding}).verdict == "exceeded"


def test_a_site_whose_images_are_repeated_does_not_drown() -> None:
    parts = {f"site-{number}": site(20, 10) for number in range(12)} | {"small": site(40, 0, 100, 100)}
    found = judge_copies(parts)
    assert found.verdict == "exceeded" and "This rests on small alone" in found.reason


def test_a_site_that_hides_an_excess_is_named() -> None:
    parts = {"a": site(16, 0, held_out=50), "b": site(16, 0, held_out=50), "liar": site(0, 100)}
    found = judge_copies(parts)
    assert found.verdict == "exceeded" and "more than these explain, without liar" in found.reason


def test_a_site_that_may_be_repeated_prevents_a_pass() -> None:
    parts = {f"site-{number}": site(1, 1) for number in range(6)} | {"small": site(11, 0, 120, 110)}
    assert LEVEL / 14 < chance_of([(120, 11, 110, 0)]) < LEVEL
    found = judge_copies(parts)
    assert found.verdict == "undecided" and "rests on small alone" in found.reason


def test_few_searches_of_several_sites_without_copies_set_off_an_alarm() -> None:
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        parts = {}
        for name in "abcde":
            rate, held_out = generator.uniform(0, 0.2), int(generator.integers(15, 151))
            copies, repeated = generator.binomial(200, rate), generator.binomial(held_out, rate)
            parts[name] = site(copies, repeated, held_out=held_out, spaces=("unet",))
        alarms += judge_copies(parts).verdict == "exceeded"
    assert alarms <= 3  # 1 %


def test_sums_of_images_are_accepted() -> None:
    assert copies_fault(measured(), DESCRIBED, 40) is None and copies_fault(measured(), None, 40) is None
    assert copies_fault(blank_copies(), {"train": 0, "validation": 9}, 40) is None
    broken = blank_copies() | {DRAWN: np.array([40.0, 0.0])}
    assert copies_fault(broken, DESCRIBED, 40) is None


LIES: dict[str, tuple[str, int, float]] = {
    "drew more": (DRAWN, 0, 41.0),
    "drew none": (DRAWN, 0, 0.0),
    "more finite than drawn": (DRAWN, 1, 41.0),
    "some finite": (DRAWN, 1, 17.0),
    "half an image": ("copies/pixels/counts", 1, 0.5),
    "negative copies": ("copies/pixels/counts", 1, -1.0),
    "more copies than images": ("copies/unet/counts", 1, 41.0),
    "other generated images": ("copies/unet/counts", 0, 39.0),
    "more held-out images": ("copies/pixels/counts", 2, 31.0),
    "more held-out copies than images": ("copies/pixels/counts", 3, 31.0),
    "no images but counts": ("copies/pixels/counts", 0, 0.0),
    "other ratios": ("copies/pixels/ratio", 0, 39.0),
    "an absurd log": ("copies/pixels/ratio", 1, 1e6),
    "squares below their mean": ("copies/pixels/ratio", 2, 0.0),
    "absurd squares": ("copies/pixels/ratio", 2, 1e9),
    "a share above 1": ("copies/unet/ratio", 3, 41.0),
    "a negative share": ("copies/unet/ratio", 3, -1.0),
    "squares above shares": ("copies/unet/ratio", 4, 40.5),
    "a negative variance": ("copies/unet/ratio", 5, -1.0),
    "an absurd variance": ("copies/unet/ratio", 6, 1e9),
    "a histogram that does not add up": ("copies/unet/histogram", 3, 99.0),
    "a negative bin": ("copies/unet/histogram", 0, -1.0),
}


@pytest.mark.parametrize("lie", LIES)
def test_sums_that_no_images_have_are_faults(lie: str) -> None:
    key, place, value = LIES[lie]
    sums = measured()
    sums[key] = sums[key].copy()
    sums[key][place] = value
    fault = copies_fault(sums, DESCRIBED, 40)
    assert fault is not None and fault.startswith("it")
