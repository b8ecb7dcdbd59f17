"""Hand-written timelines of one window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import window_rows
from strategies import T0

from headrace.streams.settings import HOUR_MS, MINUTE_MS
from headrace.streams.windows import Tier, Windows

#: One tier: 5 buckets of a minute.
FIVE = Windows(("n",), tiers=(Tier("5m", MINUTE_MS, 5),))
#: Minute 0 of the story.
M0 = (T0 // HOUR_MS) * HOUR_MS


def add(state: np.ndarray[Any, Any], facts: list[tuple[float, int]]) -> None:
    """Add (minute of the story, amount)."""
    times = np.array([M0 + minute * MINUTE_MS for minute, _ in facts]).astype(np.int64)
    zeros = np.zeros(len(facts), np.int64)
    window_rows.add(FIVE, state, zeros, times, zeros, np.array([amount for _, amount in facts], np.int64))


def minutes(story: dict[float, int]) -> np.ndarray[Any, Any]:
    """Add one event after the other: minute of the story -> amount."""
    state = np.zeros(1, np.dtype([("key", "<u8"), *window_rows.fields(FIVE)]))
    for event in story.items():
        add(state, [event])
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
    facts = [(m, m + 1) for m in range(200)]
    for start in range(0, 200, together):
        part = facts[start : start + together]
        add(state, part)
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
