"""When an offset was written: exact where the broker said it, interpolated between what is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.topics import lag_times
from headrace.streams.topics.lag_times import OffsetTimes


def seen(*looks: tuple[int, float]) -> OffsetTimes:
    """Return what looks at (end, time) tell."""
    times = OffsetTimes()
    for end, at_s in looks:
        times.ends(end, at_s)
    return times


def test_what_the_broker_said_is_exact():
    times = seen((100, 10.0))
    times.written(40, 3.25)
    assert times.at(40) == 3.25
    assert times.exact == {40}


def test_between_two_known_offsets_it_is_interpolated():
    times = seen((201, 30.0))
    times.written(100, 10.0)
    times.written(200, 20.0)
    assert times.at(150) == 15.0
    assert times.at(175) == 17.5


def test_an_end_that_moves_tells_when_its_records_came():
    times = seen((100, 10.0), (111, 20.0))
    assert times.at(100) == 10.0
    assert times.at(105) == pytest.approx(15.0)
    assert times.at(110) == 20.0


def test_records_after_a_rest_came_after_it():
    times = seen((100, 10.0), (100, 50.0), (103, 52.0))
    assert times.at(100) == 50.0
    assert times.at(101) == pytest.approx(51.0)


def test_outside_of_what_is_known_nothing_is_said():
    times = seen((100, 10.0), (120, 20.0))
    assert times.at(99) is None
    assert times.at(120) is None, "it is not written yet"
    assert times.at(500) is None
    assert OffsetTimes().at(0) is None


def test_an_estimate_does_not_replace_what_the_broker_said():
    times = seen((100, 10.0))
    times.written(100, 12.0)
    times.ends(101, 15.0)
    times.ends(101, 99.0)
    assert times.at(100) == 12.0


def test_another_log_has_other_times():
    times = seen((100, 10.0), (120, 20.0))
    times.written(90, 5.0)
    times.ends(7, 30.0)
    assert times.at(90) is None
    assert times.at(110) is None
    assert times.exact == set()


def test_what_is_needed_no_more_is_forgotten():
    times = seen((100, 10.0), (120, 20.0), (140, 30.0))
    times.written(90, 5.0)
    times.forget_before(125)
    assert times.at(130) is not None
    assert times.at(100) is None
    assert times.exact == set()


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0.1, 10.0)), min_size=1, max_size=40))
def test_times_never_go_back_and_lie_between_the_looks(steps: list[tuple[int, float]]):
    end, at_s, times = 5, 0.0, OffsetTimes()
    times.ends(end, at_s)
    between: dict[int, tuple[float, float]] = {}
    for written, pause in steps:
        before, end, at_s = at_s, end + written, at_s + pause
        times.ends(end, at_s)
        between.update(dict.fromkeys(range(end - written, end), (before, at_s)))
    found = [times.at(offset) for offset in between]
    assert None not in found
    assert found == sorted(found)
    for (low, high), at in zip(between.values(), found, strict=True):
        assert low - 1e-9 <= at <= high + 1e-9


def test_of_many_known_offsets_every_second_one_is_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lag_times, "MOST_KNOWN", 16)
    times = OffsetTimes()
    for n in range(200):
        times.ends(10 * n, float(n))
    assert len(times._offsets) <= 17
    for n in range(1, 199):
        assert times.at(10 * n) == pytest.approx(n, abs=1.0)
