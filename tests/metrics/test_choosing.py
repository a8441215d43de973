"""Which head ships if one site's marks are false: the one that ships without that site, or nearly so."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from fl_app.metrics.choosing import Choice, choose_head
from fl_app.metrics.classification import score_sums
from fl_app.metrics.intervals import patient_sums
from fl_app.metrics.paired import paired_counts
from fl_app.sums import Sums, add

K = 4
Marks = dict[str, float]  # share of right images, by head


def site(seed: int, marks: Marks, num_images: int = 60, times: float = 1.0) -> dict[str, Sums]:
    """Return what a site measured, each image counted some times: even 1e7 times, since all are sums."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) % K
    luck = generator.permutation(num_images) / num_images  # an image that a bad head has right, a better one has, too
    named = {head: np.where(luck < share, labels, (labels + 1) % K) for head, share in marks.items()}
    found: dict[str, Sums] = {}
    for head, names in named.items():
        sums = score_sums(3.0 * np.eye(K)[names], labels)
        hits = [chosen == labels for chosen in (names, named["linear"])]
        sums |= {"paired": paired_counts(hits[0], hits[1], labels, K), "patients": patient_sums(None, *hits)}
        found[head] = {key: value * times for key, value in sums.items()}
    return found


def choose(*sites: dict[str, Sums]) -> Choice:
    named = {str(number): one for number, one in enumerate(sites)}
    total = {head: add(one[head] for one in sites) for head in sites[0]}
    return choose_head(total, "balanced-accuracy", 0.68, named)


def honest(marks: Marks, number: int = 4) -> list[dict[str, Sums]]:
    return [site(seed, marks) for seed in range(number)]


@pytest.mark.parametrize("times", [1.0, 1e7])
@pytest.mark.parametrize(
    "truth", [{"linear": 0.8, "lda": 0.75, "cosine": 0.1}, {"linear": 0.9, "lda": 0.6, "cosine": 0.3}]
)
def test_one_site_of_five_ships_no_bad_head(truth: Marks, times: float) -> None:
    assert choose(*honest(truth)).head == "linear"
    lie = site(9, {"linear": 0.0, "lda": 1.0, "cosine": 1.0}, times=times)
    assert choose(*honest(truth), lie).head == "linear"


def test_one_site_of_five_ships_no_head_that_the_others_find_hardly_worse() -> None:
    some = [site(seed, {"linear": 0.8, "lda": share}) for seed, share in enumerate((0.82, 0.77, 0.77, 0.77))]
    assert choose(*some).head == "linear"
    assert choose(*some, site(9, {"linear": 0.5, "lda": 1.0})).head == "linear"


@pytest.mark.parametrize("times", [1.0, 1e7])
def test_one_site_of_five_keeps_no_better_head_from_shipping(times: float) -> None:
    truth = {"linear": 0.5, "lda": 0.75, "cosine": 0.6}
    assert choose(*honest(truth)).head == "lda"
    for lie in ({"linear": 1.0, "lda": 0.0, "cosine": 0.0}, {"linear": 0.0, "lda": 0.0, "cosine": 1.0}):
        assert choose(*honest(truth), site(9, lie, times=times)).head == "lda"


def test_a_head_that_is_better_at_large_sites_ships_though_it_is_worse_at_more_small_ones() -> None:
    small = [site(seed, {"linear": 0.8, "lda": 0.7}, num_images=20) for seed in range(3)]
    large = [site(seed, {"linear": 0.4, "lda": 0.8}, num_images=400) for seed in (4, 5)]
    assert choose(*small, *large).head == "lda"


def test_of_two_sites_all_images_decide() -> None:
    sites = [site(0, {"linear": 0.5, "lda": 1.0}, num_images=400), site(1, {"linear": 0.6, "lda": 0.5})]
    assert choose(*sites).head == "lda"


def test_a_lead_that_rests_on_one_site_is_told() -> None:
    found = choose(*honest({"linear": 0.8, "lda": 0.3}), site(9, {"linear": 0.0, "lda": 1.0}, times=1e7))
    assert found.head == "linear" and "the lead of lda, +1.000 (" in found.why
    assert "rests on one site: without the site most for it and the one most against it, it is -0." in found.why


def test_a_head_that_only_one_site_finds_worse_is_told_with_and_without_it() -> None:
    found = choose(*honest({"linear": 0.5, "lda": 0.75}), site(9, {"linear": 1.0, "lda": 0.0}, times=1e7))
    assert found.head == "lda" and "and without the site most against it by +0." in found.why


def of_classes(marks: Mapping[str, Sequence[float]], support: Sequence[int]) -> dict[str, Sums]:
    """Return what a site measured that holds so many images of each class, by the share of right ones of each."""
    labels = np.repeat(np.arange(K), support)
    luck = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in support])
    named = {
        head: np.where(luck < np.array(shares)[labels], labels, (labels + 1) % K) for head, shares in marks.items()
    }
    found: dict[str, Sums] = {}
    for head, names in named.items():
        hits = [chosen == labels for chosen in (names, named["linear"])]
        sums = score_sums(3.0 * np.eye(K)[names], labels)
        found[head] = sums | {
            "paired": paired_counts(hits[0], hits[1], labels, K),
            "patients": patient_sums(None, *hits),
        }
    return found


def test_a_head_that_knows_a_class_of_one_site_ships_if_the_others_do_not_find_it_worse() -> None:
    marks = {"linear": [0.8, 0.8, 0.8, 0.0], "lda": [0.8, 0.8, 0.8, 0.8]}
    others = [of_classes(marks, [15, 15, 15, 0]) for _ in range(3)]
    assert choose(*others, of_classes(marks, [0, 0, 0, 40])).head == "lda"
    worse = {**marks, "lda": [0.5, 0.5, 0.5, 0.8]}
    others = [of_classes(worse, [15, 15, 15, 0]) for _ in range(3)]
    assert choose(*others, of_classes(worse, [0, 0, 0, 400])).head == "linear"


def test_one_site_keeps_no_head_from_shipping_that_is_better_on_a_class_of_another_site() -> None:
    marks = {"linear": [0.2, 0.8, 0.8, 0.8], "lda": [0.9, 0.77, 0.8, 0.8]}
    sites = [of_classes(marks, support) for support in ([40, 0, 0, 0], [0, 30, 0, 0], [0, 0, 30, 0], [0, 0, 0, 30])]
    assert choose(*sites).head == "lda"
    lie = of_classes({"linear": [1.0] * K, "lda": [0.0] * K}, [8, 8, 8, 8])
    assert choose(*sites, lie).head == "lda"


def test_the_order_of_the_sites_does_not_matter() -> None:
    sites = [*honest({"linear": 0.5, "lda": 0.75, "cosine": 0.74}), site(9, {"linear": 0.0, "lda": 0.2, "cosine": 1.0})]
    assert choose(*sites) == choose(*reversed(sites))


def test_without_images_of_three_sites_all_images_decide() -> None:
    sites = [site(0, {"linear": 0.5, "lda": 0.9}), site(1, {"linear": 0.5, "lda": 0.9})]
    blank: dict[str, Sums] = {}
    for head, sums in sites[0].items():
        blank[head] = {key: np.zeros_like(value) for key, value in sums.items()}
    assert choose(*sites, blank).why == choose(*sites).why
