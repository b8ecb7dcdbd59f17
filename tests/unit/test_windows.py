from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0, dense_times, offsets_ms, pieces, spans_ms

from streams.settings import DAY_MS, HOUR_MS, MINUTE_MS
from streams.windows import AHEAD_MS, TIERS, WEEK, Tier, Windows, rounds

METRICS = ("a", "b", "c")
ALL = (*TIERS, WEEK)
WINDOWS = Windows(METRICS, tiers=ALL)
DTYPE = np.dtype([("key", "<u8"), *WINDOWS.fields()])
ROWS = 4

Fact = tuple[int, int, int, int]  # row, ts, metric, amount


def blank(n: int = ROWS, dtype: np.dtype[Any] = DTYPE) -> np.ndarray[Any, Any]:
    return np.zeros(n, dtype)


def add(data: np.ndarray[Any, Any], facts: list[Fact], windows: Windows = WINDOWS) -> None:
    windows.add(
        data,
        np.array([f[0] for f in facts], np.int64),
        np.array([f[1] for f in facts], np.int64),
        np.array([f[2] for f in facts], np.int64),
        np.array([f[3] for f in facts], np.float32),
    )


def oracle(facts: list[Fact], now: int, tier: Tier) -> np.ndarray[Any, Any]:
    """Add up what lies in the buckets ``(bucket(now) - n, bucket(now)]``, event by event."""
    out = np.zeros((ROWS, len(METRICS)))
    for row, ts, metric, amount in facts:
        age = now // tier.bucket_ms - ts // tier.bucket_ms
        if 0 <= age < tier.buckets:
            out[row, metric] += amount
    return out


def dense(seed: int, n: int, span: int) -> list[Fact]:
    rng = np.random.default_rng(seed)
    columns = (rng.integers(0, 2, n).tolist(), dense_times(rng, n, span), rng.integers(0, 3, n).tolist())
    return list(zip(*columns, rng.integers(1, 50, n).tolist(), strict=True))


sparse = spans_ms.flatmap(
    lambda span: st.lists(
        st.tuples(
            st.integers(0, ROWS - 1),
            (st.integers(0, span) | offsets_ms).map(lambda o: T0 + o % span),
            st.integers(0, len(METRICS) - 1),
            st.integers(1, 50),
        ),
        max_size=60,
    )
)
facts_strategy = sparse | st.builds(dense, st.integers(0, 2**32), st.integers(20, 120), spans_ms)


#: When to ask, from the newest event on.
later_ms = st.sampled_from(
    [*range(-AHEAD_MS, MINUTE_MS, MINUTE_MS // 2), 5 * MINUTE_MS, HOUR_MS, DAY_MS]
) | st.integers(-AHEAD_MS, 2 * DAY_MS)


@given(facts_strategy, later_ms, st.data())
def test_equals_a_brute_force_sum_whatever_the_order_and_the_batches(
    facts: list[Fact], later: int, data: st.DataObject
) -> None:
    now = max((f[1] for f in facts), default=T0) + later
    shuffled = data.draw(st.permutations(facts))
    state = blank()
    for part in pieces(len(shuffled), data.draw(st.lists(st.integers(0, 60), max_size=5))):
        add(state, shuffled[part])
    got = WINDOWS.read(state, now)
    for i, tier in enumerate(ALL):
        np.testing.assert_array_equal(got[:, i], oracle(facts, now, tier), err_msg=tier.name)
        for j, metric in enumerate(METRICS):
            np.testing.assert_array_equal(WINDOWS.read_one(state, now, tier.name, metric), got[:, i, j])
            some = np.array([3, 1])
            one = WINDOWS.read_one(state, now, tier.name, metric, rows=some)
            np.testing.assert_array_equal(one, got[some, i, j])


@given(facts_strategy, st.data())
def test_state_is_the_same_for_one_batch_and_for_single_events(
    facts: list[Fact], data: st.DataObject
) -> None:
    one, many = blank(), blank()
    add(one, facts)
    for part in pieces(len(facts), range(len(facts))):
        add(many, facts[part])
    assert one.tobytes() == many.tobytes()


@given(facts_strategy, st.lists(st.integers(0, 59), max_size=20))
def test_a_duplicated_event_counts_twice(facts: list[Fact], again: list[int]) -> None:
    # Recognising retries is somebody else's job: here every event given counts.
    facts = facts + [facts[i % len(facts)] for i in again if facts]
    state = blank()
    add(state, facts)
    now = max((f[1] for f in facts), default=T0)
    for i, tier in enumerate(ALL):
        np.testing.assert_array_equal(WINDOWS.read(state, now)[:, i], oracle(facts, now, tier))


@given(facts_strategy, st.integers(0, 2 * DAY_MS))
def test_reading_changes_nothing(facts: list[Fact], later: int) -> None:
    state = blank()
    add(state, facts)
    before = state.tobytes()
    WINDOWS.read(state, T0 + later)
    WINDOWS.read_one(state, T0 + later, "1h", "b")
    assert state.tobytes() == before


@given(facts_strategy)
def test_adding_does_not_touch_its_inputs(facts: list[Fact]) -> None:
    arrays = [np.array([f[i] for f in facts], t) for i, t in enumerate((np.int64,) * 3 + (np.float32,))]
    copies = [a.copy() for a in arrays]
    WINDOWS.add(blank(), arrays[0], arrays[1], arrays[2], arrays[3])
    for a, b in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, b)


# Hand-written timelines. One tier: 5 buckets of a minute, m = minute 0 of the story.
FIVE = Windows(("n",), tiers=(Tier("5m", MINUTE_MS, 5),))
M0 = (T0 // HOUR_MS) * HOUR_MS


def minutes(story: dict[float, int]) -> np.ndarray[Any, Any]:
    """Add one event after the other: minute of the story -> amount."""
    state = np.zeros(1, np.dtype([("key", "<u8"), *FIVE.fields()]))
    for minute, amount in story.items():
        add(state, [(0, int(M0 + minute * MINUTE_MS), 0, amount)], FIVE)
    return state


def value(state: np.ndarray[Any, Any], minute: float) -> float:
    return float(FIVE.read_one(state, int(M0 + minute * MINUTE_MS), "5m", "n")[0])


def test_a_window_slides() -> None:
    """
    minute   0    1    2    3    4    5    6
    events   1    2    .    .    4    .    .
    asked at           3              |----- window of minute 5: minutes 1..5
    """
    state = minutes({0: 1, 1: 2, 4: 4})
    assert [value(state, m) for m in range(10)] == [1, 3, 3, 3, 7, 6, 4, 4, 4, 0]


def test_the_edges_of_a_bucket() -> None:
    """
    minute   0         1
    events   1 .....1  |8
             ^first ms ^first ms of the next minute
    """
    state = minutes({0: 1, 0.99999: 1, 1: 8})
    assert value(state, 0) == 2
    assert value(state, 4.99999) == 10
    assert value(state, 5) == 8


def test_a_late_event_lands_in_its_own_bucket() -> None:
    """
    arrival  1st  3rd            2nd
    minute   0    1    2    3    4    5    6
    events   1    2              4
    """
    state = minutes({0: 1, 4: 4, 1: 2})
    assert value(state, 4) == 7
    assert value(state, 5) == 6
    assert value(state, 6) == 4


@pytest.mark.parametrize("together", [1, 2, 7])
def test_a_ring_turns_many_times(together: int) -> None:
    """
    minute   0    1    2    3   ...   199
    events   1    2    3    4   ...   200       one, two or seven in a batch
    """
    state = minutes({})
    facts = [(0, int(M0 + m * MINUTE_MS), 0, m + 1) for m in range(200)]
    for start in range(0, 200, together):
        part = facts[start : start + together]
        add(state, part, FIVE)
        newest = start + len(part) - 1
        assert value(state, newest) == sum(m + 1 for m in range(max(0, newest - 4), newest + 1))


def test_an_event_older_than_the_ring_is_left_out() -> None:
    """
    arrival  2nd                                1st
    minute   0  1  2  3  4  5  ...  18  19  20
    events   9                              1        minute 0 is in no window that may still be asked for
    """
    state = minutes({20: 1, 0: 9})
    assert [value(state, m) for m in (15, 19, 20, 24)] == [0, 0, 1, 1]


def test_a_clock_that_runs_ahead_does_not_wipe_the_present() -> None:
    """
    arrival  1st  2nd            4th  3rd (five minutes ahead of everybody)
    minute   0    1    2    3    4    9
    events   1    2              4    8
    asked at                     ^ now
    """
    state = minutes({0: 1, 1: 2, 9: 8, 4: 4})
    assert value(state, 4) == 7
    assert value(state, 9) == 8


def test_a_gap_longer_than_the_ring_leaves_nothing_behind() -> None:
    """
    minute   0 1 2 3 4   ...   1000
    events   1 1 1 1 1          1
    """
    state = minutes({0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 1000: 1})
    assert [value(state, m) for m in (999, 1000, 1004, 1005)] == [0, 1, 1, 0]


def test_the_newest_buckets_of_a_tier_can_be_asked_for() -> None:
    state = minutes({0: 1, 1: 2, 2: 4, 3: 8, 4: 16})
    now = M0 + 4 * MINUTE_MS
    assert [float(FIVE.read_one(state, now, "5m", "n", n)[0]) for n in (1, 2, 3, 5)] == [16, 24, 28, 31]


@pytest.mark.parametrize("tier", ALL, ids=lambda t: t.name)
def test_a_ring_has_room_for_the_window_and_for_what_may_be_ahead(tier: Tier) -> None:
    assert tier.ring * tier.bucket_ms >= tier.buckets * tier.bucket_ms + AHEAD_MS


def test_times_up_to_the_year_2100_fit() -> None:
    state = blank(1)
    last = 4_102_444_800_000
    add(state, [(0, last, 0, 3)])
    assert WINDOWS.read(state, last)[0, :, 0].tolist() == [3, 3, 3, 3]


def test_the_first_moment_of_time_fits() -> None:
    state = blank(1)
    add(state, [(0, 0, 0, 3)])
    assert WINDOWS.read(state, 0)[0, :, 0].tolist() == [3, 3, 3, 3]


@given(st.lists(st.integers(0, 6), max_size=40))
def test_rounds(rows: list[int]) -> None:
    array = np.array(rows, np.int64)
    parts = rounds(array)
    assert sorted(np.concatenate(parts).tolist() if parts else []) == list(range(len(rows)))
    for part in parts:
        assert len(set(array[part].tolist())) == len(part), "a row repeats within a round"
    for row in set(rows):
        met = [i for part in parts for i in part.tolist() if rows[i] == row]
        assert met == sorted(met), "a row's order is not kept"
    most = max((rows.count(r) for r in set(rows)), default=0)
    assert len(parts) == most


def test_rounds_of_the_docstring() -> None:
    assert [r.tolist() for r in rounds(np.array([7, 3, 7, 7]))] == [[0, 1], [2], [3]]
