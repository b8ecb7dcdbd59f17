"""Whether a stage catches up with old events, where the records are newer than the events in them."""

from __future__ import annotations

import numpy as np

from headrace.agents.stage.drive import MANY, OldEvents
from headrace.agents.stage.flushes import Backlog

NOW = 1_760_000_000_000


def times(count: int, age_ms: int) -> np.ndarray:
    return np.full(count, NOW - age_ms, np.int64)


def test_many_old_events_are_a_backlog_a_few_late_ones_are_none() -> None:
    assert OldEvents(3000).backlog(times(MANY, 4000), NOW) is Backlog.OLD
    assert OldEvents(3000).backlog(times(MANY - 1, 4000), NOW) is Backlog.NONE
    assert OldEvents(3000).backlog(times(0, 0), NOW) is Backlog.NONE


def test_one_new_event_among_many_old_ones_is_shown_at_once() -> None:
    old = OldEvents(3000)
    old.backlog(times(MANY, 4000), NOW)
    assert old.backlog(np.append(times(MANY, 4000), NOW), NOW) is Backlog.NONE
    assert old.backlog(times(1, 4000), NOW) is Backlog.NONE


def test_the_small_batches_of_a_backlog_belong_to_it() -> None:
    old = OldEvents(3000)
    old.backlog(times(MANY, 4000), NOW)
    assert old.backlog(times(1, 4000), NOW) is Backlog.OLD
    assert old.backlog(times(0, 0), NOW) is Backlog.OLD
    assert old.backlog(times(1, 3000), NOW) is Backlog.NONE


def test_few_new_events_anywhere_in_a_large_batch_are_seen() -> None:
    old, ts = OldEvents(3000), times(100 * MANY, 4000)
    ts[np.random.default_rng(0).integers(0, len(ts), len(ts) // 50)] = NOW
    assert old.backlog(ts, NOW) is Backlog.NONE
