"""When a partition counts as not read, and how long the next restart waits."""

from __future__ import annotations

from itertools import pairwise

import pytest
from aiokafka import TopicPartition

from headrace.streams.transport.stuck import LONGEST_PAUSE_S, LOOKS, Reading, StuckWatch

TP, OTHER = TopicPartition("events", 1), TopicPartition("events", 2)
AFTER_S = 60.0
STEP_S = AFTER_S / LOOKS


def reading(position: int | None = 5, end: int = 9, *, due: bool = True, tp: TopicPartition = TP) -> Reading:
    return Reading(tp, position, end, due)


def looks(watch: StuckWatch, *found: Reading, begin_s: float = 0.0) -> list[float]:
    """Look once per reading; return the times at which something was stuck."""
    return [begin_s + n * STEP_S for n, one in enumerate(found) if watch.look([one], begin_s + n * STEP_S)]


def test_records_that_are_not_read_for_long_make_a_partition_stuck() -> None:
    watch = StuckWatch(AFTER_S)
    for n in range(LOOKS):
        assert watch.look([reading(end=9 + n), reading(5 + n, 100, tp=OTHER)], n * STEP_S) == []
    (stuck,) = watch.look([reading(end=20), reading(99, 100, tp=OTHER)], AFTER_S)
    assert (stuck.tp, stuck.position, stuck.records, stuck.seconds) == (TP, 5, 15, AFTER_S)


@pytest.mark.parametrize(
    "well",
    [
        pytest.param(reading(end=5), id="nothing to read, or a transaction is open"),
        pytest.param(reading(due=False), id="its agent is slow, or the log is compared"),
        pytest.param(reading(None), id="where it is read is not known"),
        pytest.param(reading(6), id="it moved"),
        pytest.param(reading(4), id="it was sent back"),
    ],
)
def test_what_waits_lawfully_begins_anew(well: Reading) -> None:
    watch = StuckWatch(AFTER_S)
    assert looks(watch, *[reading()] * LOOKS, well, *[reading()] * LOOKS) == []


def test_looks_that_are_missing_begin_anew() -> None:
    watch = StuckWatch(AFTER_S)
    assert looks(watch, *[reading()] * LOOKS) == []
    assert watch.look([reading()], 10 * AFTER_S) == [], "the process was stopped"
    assert watch.look([reading()], 10 * AFTER_S + STEP_S) == []
    watch = StuckWatch(AFTER_S)
    looks(watch, *[reading()] * LOOKS)
    watch.forget()
    assert looks(watch, *[reading()] * LOOKS, begin_s=AFTER_S) == []


def test_each_restart_waits_twice_as_long_as_the_one_before() -> None:
    watch, restarts, now_s = StuckWatch(AFTER_S), [], 0.0
    while now_s < 6 * 3600:
        if watch.look([reading()], now_s):
            restarts.append(now_s)
            watch.restarted(now_s)
        now_s += STEP_S
    pauses = [later - before for before, later in pairwise(restarts)]
    assert restarts[0] == AFTER_S
    assert pauses[:5] == [120, 240, 480, 960, 1920]
    assert set(pauses[5:]) == {LONGEST_PAUSE_S}


def test_after_a_calm_time_a_restart_comes_soon_again() -> None:
    watch = StuckWatch(AFTER_S)
    assert watch.restarted(0.0) == 120
    assert watch.restarted(130.0) == 240
    assert watch.restarted(10_000.0) == 120
