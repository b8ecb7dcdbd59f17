"""The time up to which a topic was read, and the clock without steps."""

from __future__ import annotations

import numpy as np

from headrace.agents.partitions.progress import IDLE_MS, Progress, SteadyClock

HOUR = 3_600_000


def test_a_record_dated_far_ahead_moves_the_time_no_further_than_the_clock() -> None:
    progress = Progress(1000)
    progress.read(4_000_000_000_000, 1500)
    assert progress.read_to == 1500
    progress.read(1600, 1700)
    assert progress.read_to == 1600


def test_records_dated_back_do_not_move_the_time_back() -> None:
    progress = Progress(0)
    progress.read(500, 1000)
    progress.read(-1, 1000)
    progress.read(0, 1000)
    assert progress.read_to == 500


def test_an_idle_topic_follows_the_clock_only_when_it_was_read_to_its_end() -> None:
    progress = Progress(0)
    progress.read(10, 100)
    progress.idle(100 + IDLE_MS, at_end=True)
    assert (progress.read_to, progress.floor) == (10, 100)
    progress.idle(101 + IDLE_MS, at_end=False)
    assert progress.read_to == 10
    progress.idle(101 + IDLE_MS, at_end=True)
    assert (progress.read_to, progress.floor) == (101, 101)


def test_the_clock_follows_the_machine() -> None:
    clock = SteadyClock(5000, 1.0)
    assert [clock.now(5000 + 10 * i, 1.0 + i / 100) for i in range(5)] == [5000, 5010, 5020, 5030, 5040]


def test_a_step_ahead_and_back_moves_the_clock_by_twice_the_time_it_lasted() -> None:
    clock = SteadyClock(0, 0.0)
    assert clock.now(1000, 1.0) == 1000
    assert clock.now(HOUR, 2.0) == 3000
    assert clock.now(HOUR + 1000, 3.0) == 5000
    assert clock.now(4000, 4.0) == 5500, "half the speed until the machine's clock is ahead again"
    assert clock.now(5000, 5.0) == 6000
    assert clock.now(6000, 6.0) == 6500
    assert clock.now(7000, 7.0) == 7000
    assert clock.now(8000, 8.0) == 8000


def test_a_step_back_never_moves_the_clock_back() -> None:
    rng = np.random.default_rng(0)
    clock, last, passed = SteadyClock(HOUR, 0.0), HOUR, 0.0
    for _ in range(500):
        passed += float(rng.random())
        now = clock.now(int(HOUR + passed * 1000 + rng.integers(-HOUR, HOUR)), passed)
        assert now >= last
        last = now
    assert last <= HOUR + 2000 * passed + 1
