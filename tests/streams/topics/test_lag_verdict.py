"""Verdicts on windows of looks: every one is provoked, and what must not hide or raise one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.topics.lag_verdict import (
    GROWING_S,
    MOST_POINTS,
    Pace,
    Point,
    Verdict,
    Window,
    judge,
    stuck_s,
    trend,
    worst,
)

#: An agent that commits what it reads within 4 s, and is never quiet for longer than 10 s.
PACE = Pace(wait_s=4.0, quiet_s=10.0)
OLD, YOUNG = 60.0, 1.0


def look(
    at_s: float, committed: int, end: int, seconds: float | None = OLD, held: bool | None = True
) -> Point:
    """Return a look at a log that begins at 0."""
    records = max(0, end - max(0, committed))
    return Point(at_s, committed, end, records, seconds if records else 0.0, held)


def looks(*offsets: tuple[int, int], seconds: float | None = OLD, held: bool | None = True) -> list[Point]:
    """Return looks every 2 s at (committed, end)."""
    return [look(2.0 * n, committed, end, seconds, held) for n, (committed, end) in enumerate(offsets)]


def still(n: int = 6, held: bool | None = True, seconds: float | None = OLD) -> list[Point]:
    """Return looks over 2 n - 2 s: records come, the committed offset stays."""
    return looks(*((100, 200 + 10 * i) for i in range(n)), held=held, seconds=seconds)


def test_nothing_left_is_ok():
    assert judge(looks((100, 100)), PACE) is Verdict.OK
    assert judge(looks((50, 90), (100, 100)), PACE) is Verdict.OK
    assert judge(looks((-1, 0), (-1, 0)), PACE) is Verdict.OK


def test_what_waits_no_longer_than_it_may_is_ok_after_one_look():
    assert judge(looks((100, 200), seconds=3.9), PACE) is Verdict.OK
    assert judge(still(20, seconds=YOUNG), PACE) is Verdict.OK


def test_one_look_at_old_records_tells_nothing():
    assert judge(looks((100, 200)), PACE) is Verdict.UNKNOWN
    assert judge(looks((100, 200), seconds=None), PACE) is Verdict.UNKNOWN
    assert judge(still(5), PACE) is Verdict.UNKNOWN, "8 s are no long time"


@pytest.mark.parametrize(("held", "verdict"), [(True, Verdict.STALL), (False, Verdict.STOP)])
def test_no_commit_for_long_while_records_wait(held: bool, verdict: Verdict):
    assert judge(still(6, held), PACE) is verdict
    assert judge(still(6, held, seconds=None), PACE) is verdict, "an unknown age excuses nothing"
    first_read = looks(*[(-1, 50)] * 6, held=held)
    assert judge(first_read, PACE) is verdict, "a group that has never committed, too"


def test_in_a_rebalance_what_was_known_last_counts():
    *before, last = still(6, held=True)
    assert judge([*before, replace(last, held=None)], PACE) is Verdict.STALL
    *before, last = still(6, held=False)
    assert judge([*before, replace(last, held=None)], PACE) is Verdict.STOP
    assert judge(still(6, held=None), PACE) is Verdict.STOP, "nobody was ever seen"


def test_a_worker_that_dies_turns_a_stall_into_a_stop():
    *before, last = still(7, held=True)
    assert judge([*before, replace(last, held=False)], PACE) is Verdict.STOP


@pytest.mark.parametrize("zero", range(1, 7))
def test_one_look_without_lag_does_not_hide_a_stop(zero: int):
    points = still(8, held=False)
    points[zero] = replace(points[zero], records=0, seconds=0.0)
    assert judge(points, PACE) is Verdict.STOP


def test_an_hour_of_idleness_is_no_stop_of_the_first_record():
    idle = [look(60.0 * n, 100, 100) for n in range(60)]
    assert judge(idle, PACE) is Verdict.OK
    first = look(3600.0, 100, 101)
    assert judge([*idle, first], PACE) is Verdict.UNKNOWN
    assert judge([*idle, first, look(3611.0, 100, 101)], PACE) is Verdict.STALL


def test_lag_that_grows_while_commits_move_is_a_warning():
    assert judge(looks((0, 10), (10, 30), (20, 50), (30, 70)), PACE) is Verdict.WARN
    assert judge(looks((0, 10), (10, 30), (20, 50), (30, 70), seconds=None), PACE) is Verdict.WARN


def test_a_look_without_lag_does_not_hide_that_it_grows():
    points = looks((0, 10), (10, 30), (20, 50), (30, 70), (90, 90), (92, 160), (94, 190), (96, 220))
    assert points[4].records == 0
    assert judge(points, PACE) is Verdict.WARN


def test_a_steady_or_shrinking_lag_is_no_warning():
    assert judge(looks(*((n, n + 100) for n in range(9))), PACE) is Verdict.OK
    assert judge(looks(*((20 * n, 500 + 10 * n) for n in range(9))), PACE) is Verdict.OK


@pytest.mark.parametrize("phase", range(5))
@pytest.mark.parametrize("looked", range(4, 40))
def test_commits_in_steps_are_no_growth(phase: int, looked: int):
    """A backlog of 1000; the end moves at every look, a commit comes at every fifth."""
    offsets = [(10 * ((n + phase) // 5 * 5), 1000 + 10 * (n + phase)) for n in range(looked)]
    assert judge(looks(*offsets), PACE) in (Verdict.OK, Verdict.UNKNOWN)


def test_an_offset_that_goes_back_is_a_rewind():
    assert judge(looks((100, 200), (40, 200)), PACE) is Verdict.REWIND
    assert judge(looks((100, 200), (40, 200), (90, 200)), PACE) is Verdict.REWIND, "also while it catches up"
    assert judge(looks((100, 200), (-1, 200)), PACE) is Verdict.REWIND, "the group has lost its offsets"
    assert judge(looks((0, 200), (-1, 200)), PACE) is Verdict.UNKNOWN, "the beginning is the beginning"


def test_another_log_is_no_rewind():
    window = Window(60.0)
    for point in looks((100, 200), (150, 200), (0, 3)):
        window.add(point)
    assert list(window.points) == looks((100, 200), (150, 200), (0, 3))[2:]


def test_a_window_ends_where_it_is_too_old_and_where_the_clock_goes_back():
    window = Window(10.0)
    for at in (0.0, 5.0, 12.0):
        window.add(look(at, 1, 1))
    assert [p.at_s for p in window.points] == [5.0, 12.0]
    window.add(look(3.0, 1, 1))
    assert [p.at_s for p in window.points] == [3.0]


@pytest.mark.parametrize("every_s", [0.1, 0.5, 1.0, 5.0])
def test_a_window_goes_back_as_far_however_often_somebody_looks(every_s: float):
    window = Window(3600.0)
    for n in range(int(6000 / every_s)):
        window.add(look(n * every_s, 100, 200 + n))
    pauses = [later.at_s - before.at_s for before, later in pairwise(window.points)]
    assert len(window.points) <= MOST_POINTS + 2
    assert 3590 < stuck_s(window.points) <= 3600
    assert max(pauses[:-1]) < 3 * min(pauses[:-1]), "the later half by number is the later half of the time"
    assert judge(window.points, Pace(4.0, 3500.0)) is Verdict.STALL


@pytest.mark.parametrize("offsets", [(150, 120, 160), (150, 90, 150), (40, 110, 111), (150, 149, 149)])
def test_a_short_rewind_is_kept_however_often_somebody_looks(offsets: tuple[int, ...]):
    window = Window(36_000.0)
    for n, committed in enumerate([100] * 30 + list(offsets) + [500] * 300):
        window.add(look(n * 0.5, committed, 1000))
    assert len(window.points) < 20
    assert judge(window.points, PACE) is Verdict.REWIND


@pytest.mark.parametrize("every_s", [0.1, 0.25, 0.5, 1.0])
def test_a_lag_that_grows_for_a_moment_is_no_warning_however_often_somebody_looks(every_s: float):
    points = [look(every_s * n, n, 10 + 3 * n) for n in range(1 + round(GROWING_S / every_s))]
    assert judge(points, PACE) is Verdict.WARN
    assert judge(points[:-1], PACE) is Verdict.OK


def test_deleted_records_are_no_progress():
    """The log begins later at every look, so the lag shrinks; the commit stays below it."""
    points = [Point(2.0 * n, 5, 200, 150 - 10 * n, OLD, held=False) for n in range(7)]
    assert judge(points, PACE) is Verdict.STOP


def test_a_group_is_as_bad_as_its_worst_partition():
    order = [Verdict.OK, Verdict.UNKNOWN, Verdict.WARN, Verdict.REWIND, Verdict.STALL, Verdict.STOP]
    for n, verdict in enumerate(order):
        assert worst(order[: n + 1][::-1]) is verdict
    assert worst([]) is Verdict.OK
    assert [v for v in order if v.is_failure] == order[3:]


def test_a_trend_is_the_change_between_the_halves():
    assert trend(looks((0, 10))) is None
    assert trend(looks((0, 10), (0, 30))) == 10.0
    assert trend(looks((0, 10), (0, 20), (0, 30), (0, 40))) == 5.0
    assert trend(looks((0, 40), (20, 40), (40, 40), (40, 40))) == pytest.approx(-7.5)
    assert trend([look(1.0, 0, 5), look(1.0, 0, 5)]) is None


# --- properties ---

steps = st.tuples(
    st.floats(0.5, 5.0), st.integers(0, 50), st.integers(0, 50), st.sampled_from([True, False, None])
)


@st.composite
def windows(draw: st.DrawFn) -> list[Point]:
    """Looks at one log, where commits and records come as they like; commits never go back."""
    at_s, committed, end = 0.0, draw(st.integers(-1, 50)), draw(st.integers(50, 100))
    out = [look(at_s, committed, end)]
    for pause, read, written, held in draw(st.lists(steps, min_size=1, max_size=30)):
        at_s, end = at_s + pause, end + written
        committed = min(end, committed + read)
        out.append(look(at_s, committed, end, draw(st.sampled_from([None, YOUNG, OLD])), held))
    return out


@given(windows())
def test_who_has_read_everything_is_ok(points: list[Point]):
    end = points[-1].end
    assert judge([*points, look(points[-1].at_s + 1, end, end)], PACE) is Verdict.OK


@given(windows())
def test_a_failure_needs_old_records_and_a_long_rest(points: list[Point]):
    verdict = judge(points, PACE)
    if verdict.is_failure:
        assert points[-1].records > 0
        assert points[-1].seconds != YOUNG
        rest = [p for p in points if p.at_s >= points[-1].at_s - PACE.quiet_s]
        assert {p.committed for p in rest} == {points[-1].committed}


@given(windows())
def test_a_commit_ends_every_failure(points: list[Point]):
    after = look(points[-1].at_s + 1, points[-1].committed + 1, points[-1].end + 5)
    assert not judge([*points, after], PACE).is_failure


@given(windows(), st.integers(1, 8))
def test_whoever_never_commits_again_has_failed_in_the_end(points: list[Point], pauses: int):
    """However the looks are spaced, and whatever was before."""
    last, rest_s = points[-1], PACE.quiet_s + 0.01
    waiting = [
        look(last.at_s + 1 + rest_s * n / pauses, last.committed, last.end + 1, OLD, False)
        for n in range(pauses + 1)
    ]
    assert stuck_s([*points, *waiting]) >= PACE.quiet_s
    assert judge([*points, *waiting], PACE) is Verdict.STOP


@given(windows(), st.data())
def test_no_single_zero_hides_a_failure(points: list[Point], data: st.DataObject):
    last = points[-1]
    points += [look(last.at_s + 1 + 4 * n, last.committed, last.end + 9, OLD, False) for n in range(5)]
    zero = data.draw(st.integers(0, len(points) - 2).filter(lambda n: points[n].at_s != last.at_s + 1))
    points[zero] = replace(points[zero], records=0, seconds=0.0)
    assert judge(points, PACE) is Verdict.STOP


@given(windows(), st.integers(1, 1000))
def test_what_goes_back_is_a_rewind_wherever_it_is(points: list[Point], back: int):
    last = points[-1]
    again = replace(last, at_s=last.at_s + 1, committed=last.committed - back)
    verdict = judge([*points, again, replace(last, at_s=last.at_s + 2)], PACE)
    assert (verdict is Verdict.REWIND) == (last.committed > 0)
