import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_app.errors import RejectedReply
from fl_app.messages.arrays import Weights
from fl_app.messages.records import Reply
from fl_app.options.federation import AdmissionOptions
from fl_app.strategies.admission import Admission, update_norm
from tests.options import run_config

SUMS = {"raw/loss-sum": np.zeros(2)}
CURRENT: Weights = {"w": np.zeros((2, 3), np.float32), "steps": np.zeros((), np.int64)}


def admission(**changes: float) -> Admission:
    defaults = run_config().admission.model_dump()
    return Admission(AdmissionOptions(**{key.replace("_", "-"): value for key, value in (defaults | changes).items()}))


def reply(**changes: object) -> Reply:
    weights = {"w": np.ones((2, 3), np.float32), "steps": np.ones((), np.int64)}
    fields: dict[str, object] = {"site": "a", "task": "diffusion", "round_number": 3, "weight": 5.0, "weights": weights}
    fields["sums"] = {"raw/loss-sum": np.ones(2)}
    return Reply(**(fields | changes))  # type: ignore[arg-type]


def check(judge: Admission, answer: Reply, site: str = "a") -> None:
    norm = judge.check(answer, "diffusion", 3, site, CURRENT, SUMS)
    if answer.weight > 0:
        judge.judge_length(answer.site, norm)
    judge.remember(answer, norm)


def test_a_fit_reply_is_admitted() -> None:
    check(admission(), reply())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"round_number": 2}, "answers diffusion round 2, not diffusion round 3"),
        ({"task": "classification"}, "answers classification round 3"),
        ({"site": "b"}, "calls itself 'b', but was described as 'a'"),
        ({"weights": {"w": np.ones((2, 3), np.float32)}}, "1 missing, 0 unknown"),
        ({"weights": CURRENT | {"x": np.ones(1, np.float32)}}, "0 missing, 1 unknown"),
        (
            {"weights": CURRENT | {"w": np.ones((3, 2), np.float32)}},
            r"'w' must be float32 \[2, 3\], got float32 \[3, 2\]",
        ),
        ({"weights": CURRENT | {"w": np.ones((2, 3), np.float64)}}, "got float64"),
        ({"weights": CURRENT | {"w": np.full((2, 3), np.nan, np.float32)}}, "'w' holds a number that is not finite"),
        ({"weights": CURRENT | {"w": np.full((2, 3), np.inf, np.float32)}}, "not finite"),
        ({"node_ema": CURRENT | {"w": np.full((2, 3), np.nan, np.float32)}}, "not finite"),
        ({"weight": -1.0}, "at least 0, got -1.0"),
        ({"weight": math.nan}, "at least 0, got nan"),
        ({"weight": math.inf}, "at least 0, got inf"),
        ({"loss_sum": math.nan}, "a figure of its training is not finite"),
        ({"loss_sum": 1e300}, "or absurdly large"),
        ({"sums": {"raw/loss-sum": np.array([math.inf, 0])}}, "its sums are not finite"),
        ({"sums": {"raw/loss-sum": np.array([1e300, 0])}}, "absurdly large"),
        ({"sums": {"raw/loss-sum": np.zeros(3)}}, "other names or shapes"),
        ({"sums": {}}, "other names or shapes"),
    ],
)
def test_an_unfit_reply_is_refused_with_its_reason(changes: dict[str, object], words: str) -> None:
    with pytest.raises(RejectedReply, match=words):
        check(admission(), reply(**changes))


def test_a_weight_beyond_the_cap_is_refused() -> None:
    check(admission(max_weight=5.0), reply(weight=5.0))
    with pytest.raises(RejectedReply, match=r"beyond 'admission.max-weight' = 5"):
        check(admission(max_weight=5.0), reply(weight=5.5))


def test_a_reply_of_more_images_than_its_site_described_is_refused() -> None:
    judge = admission()
    judge.check(reply(weight=5.0), "diffusion", 3, "a", CURRENT, SUMS, num_images=5)
    with pytest.raises(RejectedReply, match="trained on 6 images, but described 5 when the run began"):
        judge.check(reply(weight=6.0), "diffusion", 3, "a", CURRENT, SUMS, num_images=5)


def test_no_more_losses_are_counted_than_the_epochs_of_a_round_have() -> None:
    judge = Admission(admission().options, epochs=2.0)
    judge.check(reply(num_losses=10.0, loss_sum=7.0), "diffusion", 3, "a", CURRENT, SUMS)
    with pytest.raises(RejectedReply, match="trained 16 times on an image, at most 15 can be"):
        judge.check(reply(num_losses=16.0), "diffusion", 3, "a", CURRENT, SUMS)


def test_the_most_that_a_site_trained_on_is_remembered() -> None:
    judge = admission()
    for weight in (4.0, 9.0, 5.0):
        check(judge, reply(weight=weight))
        judge.end_round()
    assert judge.trained_on == {"a": 9.0}


def test_a_round_that_does_not_count_leaves_nothing_to_compare_with() -> None:
    judge = admission()
    check(judge, updated(1.0))
    judge.forget_round()
    judge.end_round()
    assert judge.must_wait and judge.trained_on == {}


def test_updates_wait_until_one_has_a_length() -> None:
    judge = admission()
    assert judge.must_wait
    check(judge, updated(0.0))
    judge.end_round()
    assert judge.must_wait
    check(judge, updated(1.0))
    check(judge, updated(1.0))
    judge.end_round()
    assert not judge.must_wait and not admission(max_update_norm_ratio=0.0).must_wait


def updated(length: float, weight: float = 5.0, site: str = "a") -> Reply:
    w = np.zeros((2, 3), np.float32)
    w[0, 0] = length
    return reply(weights=CURRENT | {"w": w}, weight=weight, site=site)


def test_an_update_far_longer_than_those_of_recent_rounds_is_refused() -> None:
    judge = admission(max_update_norm_ratio=4.0)
    check(judge, updated(100.0))  # nothing to compare with yet
    judge.end_round()
    judge.recent_norms.clear()
    for site, length in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        check(judge, updated(length, site=site), site)
    judge.end_round()
    check(judge, updated(8.0))
    with pytest.raises(RejectedReply, match=r"its update is 4\.1 times as long as the median"):
        check(judge, updated(8.2))


def test_a_refused_update_does_not_shift_the_median() -> None:
    judge = admission(max_update_norm_ratio=2.0)
    check(judge, updated(1.0))
    judge.end_round()
    for _ in range(5):
        with pytest.raises(RejectedReply):
            check(judge, updated(50.0))
    judge.end_round()
    assert list(judge.recent_norms) == [[1.0]]


def test_norms_of_long_ago_are_forgotten() -> None:
    judge = admission(max_update_norm_ratio=3.0, norm_window=2)
    for length in (1.0, 2.0, 4.0, 8.0):
        check(judge, updated(length))
        judge.end_round()
    assert list(judge.recent_norms) == [[4.0], [8.0]]


def test_a_node_without_images_is_not_measured_by_its_update() -> None:
    judge = admission()
    check(judge, updated(0.0, weight=0.0))
    judge.end_round()
    assert not judge.recent_norms


@given(st.floats(allow_nan=True, allow_infinity=True, width=32), st.floats(allow_nan=True, allow_infinity=True))
def test_only_finite_numbers_get_in(value: float, weight: float) -> None:
    answer = reply(weights=CURRENT | {"w": np.full((2, 3), value, np.float32)}, weight=weight)
    fit = math.isfinite(value) and math.isfinite(weight) and weight >= 0
    if fit:
        check(admission(), answer)
    else:
        with pytest.raises(RejectedReply):
            check(admission(), answer)


def test_the_length_of_an_update_counts_all_arrays() -> None:
    new = {"w": np.full((2, 3), 2.0, np.float32), "steps": np.array(5)}
    assert update_norm(new, CURRENT) == pytest.approx(math.sqrt(6 * 4 + 25))


def test_the_length_of_an_update_does_not_depend_on_the_order_in_which_arrays_come() -> None:
    values = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    old = {str(number): np.zeros(7, np.float32) for number in range(40)}
    new = {str(number): value for number, value in enumerate(values)}
    assert update_norm(dict(sorted(new.items(), reverse=True)), old) == update_norm(new, old)


TWO: Weights = {"large": np.zeros(10_000, np.float32), "small": np.zeros(4, np.float32)}


def moved(site: str, large: float, small: float) -> Reply:
    """Return a reply whose two arrays moved by these lengths."""
    weights = {"large": np.full(10_000, large / 100.0, np.float32), "small": np.full(4, small / 2.0, np.float32)}
    return reply(site=site, weights=weights)


def judged(judge: Admission, answer: Reply) -> float:
    norm = judge.check(answer, "diffusion", 3, answer.site, TWO, SUMS)
    judge.judge_length(answer.site, norm)
    return norm


def test_a_small_array_may_not_move_far_within_a_whole_update_of_usual_length() -> None:
    judge = admission(max_update_norm_ratio=10.0)
    honest = [moved(site, 4.0 + number, 0.5) for number, site in enumerate("abc")]
    liar = moved("d", 5.0, 11.0)
    norms = {answer.site: judged(judge, answer) for answer in (*honest, liar)}
    ((site, reason),) = judge.judge_round(norms)
    assert site == "d" and "its update of 'small' is 22.0 times as long as the median of this round" in reason
    for answer in honest:
        judge.remember(answer, norms[answer.site])
    judge.end_round()
    assert list(judge.recent_arrays) == [{"large": pytest.approx(5.0), "small": pytest.approx(0.5)}]
    judged(judge, moved("a", 5.0, 9.9))
    with pytest.raises(RejectedReply, match=r"its update of 'small' is 22\.0 times as long as the median of recent"):
        judged(judge, liar)


def test_an_array_that_hardly_moves_elsewhere_is_no_measure() -> None:
    judge = admission(max_update_norm_ratio=10.0)
    norms = {site: judged(judge, moved(site, 5.0, length)) for site, length in zip("abc", (0.0, 0.0, 1.9), strict=True)}
    assert not list(judge.judge_round(norms))  # 0.02 of the whole update is a share of 0.1


def test_an_average_of_weights_moves_no_farther_than_they_do() -> None:
    judge = admission(max_update_norm_ratio=10.0)
    judged(judge, moved("a", 3.0, 4.0))
    judge.judge_average("a", 59.0, gap=1.0)
    with pytest.raises(RejectedReply, match=r"its EMA moved 10\.2 times as far as its weights"):
        judge.judge_average("a", 61.0, gap=1.0)
    admission(max_update_norm_ratio=0.0).judge_average("a", 1e9, gap=0.0)
