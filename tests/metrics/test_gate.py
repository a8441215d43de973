"""The rule of the gate, whatever is measured: one site can raise the alarm, and no site can silence it."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from fl_app.metrics.gate import Alarm, find_alarm

Sites = dict[str, tuple[float, float]]  # of each: a weight, and a value whose weighted mean may be beyond 1

sites = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.sampled_from([1.0, 3.0, 20.0]), st.floats(0, 4)), max_size=6
)


def alarm_of(found: Sites, limit_alone: float = 3.0) -> Alarm | None:
    def is_beyond(names: Sequence[str]) -> bool:
        assert names
        weight = sum(found[name][0] for name in names)
        return sum(found[name][0] * found[name][1] for name in names) > weight

    return find_alarm(list(found), is_beyond, lambda name, number: found[name][1] > limit_alone)


def without(found: Sites, name: str) -> Sites:
    return {site: value for site, value in found.items() if site != name}


def is_mean_beyond(found: Sites) -> bool:
    return bool(found) and sum(w * v for w, v in found.values()) > sum(w for w, _ in found.values())


@given(sites, st.tuples(st.floats(0, 1e9), st.floats(0, 4)))
def test_what_the_others_show_no_site_can_silence(found: Sites, lie: tuple[float, float]) -> None:
    shown = is_mean_beyond(found) or any(value > 3.0 for _, value in found.values())
    assert not shown or alarm_of({**found, "liar": lie}) is not None


@given(sites)
def test_it_rests_on_exactly_those_sites_without_which_there_is_none(found: Sites) -> None:
    alarm = alarm_of(found)
    if alarm is not None:
        expected = [name for name in sorted(found) if len(found) > 1 and alarm_of(without(found, name)) is None]
        assert list(alarm.rests_on) == expected
        assert alarm.is_of_all == is_mean_beyond(found) and not (alarm.is_of_all and alarm.hidden_by)
        assert all(name in alarm.doubt("knows") for name in expected)


@given(sites)
def test_the_order_of_sites_changes_nothing(found: Sites) -> None:
    assert alarm_of(found) == alarm_of(dict(reversed(found.items())))


def test_one_site_by_itself_raises_it_though_the_others_are_many() -> None:
    alarm = alarm_of({"small": (1.0, 4.0), **dict.fromkeys("abcde", (20.0, 0.0))})
    assert alarm == Alarm(False, (), ("small",), ("small",))
    assert alarm.doubt("knows").endswith("either the model knows the images of small, or small lies")


def test_without_sites_there_is_none_and_one_site_rests_on_no_other() -> None:
    assert alarm_of({}) is None
    assert alarm_of({"a": (1.0, 2.0)}) == Alarm(True, (), (), ())
