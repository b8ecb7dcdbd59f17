"""Sessions, recent items and pairs."""

from __future__ import annotations

import numpy as np
from strategies import GAP_MS, T0, columns
from user_stories import apply, clicks, newest, row

from headrace.models.state.users import (
    METRICS,
    PAIRS,
    RECENT,
    ROW,
    SEQ_STEP,
    recent_items,
)
from headrace.streams.settings import HOUR_MS, MINUTE_MS


def test_a_session_and_its_end() -> None:
    """
    minute   0   10   20                 55   (gap 30)
    click    1    2    3                  4
             |-------- session --------|  |--
    """
    state, done = apply(clicks((0, 1), (10, 2), (20, 3), (55, 4)))
    assert newest(state) == [4, 3, 2, 1]
    assert row(state)["session_len"] == 1
    pairs = [(int(p["item"]), int(p["other"])) for a in done for p in a.pairs]
    assert pairs == [(1, 2), (2, 3), (1, 3)]


def test_a_silence_of_exactly_the_gap_goes_on() -> None:
    assert row(apply(clicks((0, 1), (30, 2)))[0])["session_len"] == 2
    assert row(apply(clicks((0, 1), (30.001, 2)))[0])["session_len"] == 1


def test_a_late_click_finds_its_place() -> None:
    """
    arrival  1st  3rd  2nd
    minute   0    5    10
    click    1    3    2
    """
    state, done = apply(clicks((0, 1), (10, 2), (5, 3)))
    assert newest(state) == [2, 3, 1]
    assert row(state)["session_len"] == 3
    assert [(int(p["item"]), int(p["other"])) for a in done for p in a.pairs] == [(1, 2), (1, 3)]


def test_a_click_of_an_earlier_session_does_not_end_the_present_one() -> None:
    """
    arrival  3rd               1st  2nd  4th
    minute   0                 50   55   60
    click    9                 1    2    3
    """
    state, done = apply(clicks((50, 1), (55, 2), (0, 9), (60, 3)))
    assert newest(state) == [3, 2, 1, 9]
    assert row(state)["session_len"] == 3
    assert [(int(p["item"]), int(p["other"])) for a in done for p in a.pairs] == [(1, 2), (2, 3), (1, 3)]


def test_a_late_click_can_join_two_sessions() -> None:
    """
    arrival  1st         3rd         2nd
    minute   0           25          50
    click    1           3           2
    """
    state, _ = apply(clicks((0, 1), (50, 2), (25, 3)))
    assert row(state)["session_len"] == 3


def test_a_click_older_than_all_that_is_kept_is_only_counted() -> None:
    story = clicks(*((m, m + 1) for m in range(RECENT)))
    state, done = apply([*story, *clicks((-1, 99))])
    assert newest(state) == list(range(RECENT, 0, -1))
    assert row(state)["n_clicks"] == RECENT + 1
    assert row(state)["totals"][METRICS.index("click")] == RECENT + 1
    assert 99 not in {int(p["other"]) for a in done for p in a.pairs}
    state.apply(columns(clicks((RECENT, 50)), [1000]))
    assert newest(state) == [50, *range(RECENT, 1, -1)]


def test_long_sessions_keep_to_their_bounds() -> None:
    story = clicks(*((m, m + 1) for m in range(60)))
    state, done = apply(story)
    assert newest(state) == list(range(60, 60 - RECENT, -1))
    assert row(state)["session_len"] == RECENT
    assert max(np.bincount([int(p["source_seq"]) // SEQ_STEP for a in done for p in a.pairs])) == PAIRS


def test_asking_for_recent_items() -> None:
    state, _ = apply(clicks((0, 1), (1, 2), (2, 3)))
    assert recent_items(row(state), 2) == ([3, 2], [T0 + 2 * MINUTE_MS, T0 + MINUTE_MS])
    assert recent_items(np.zeros((), ROW)[()]) == ([], [])
    assert HOUR_MS > GAP_MS
