"""What a request has spent: in this process, and in Kafka as far as clocks can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from headrace.serving.requests.address import parse_reply_address
from headrace.serving.requests.pace import Pace
from headrace.serving.requests.waiting import Waiting
from headrace.streams.clock import ManualClock
from headrace.streams.messages.schemas import RecRequest

NOW = 1_700_000_000_000


@dataclass
class Record:
    timestamp: int


def job(sent: int, deadline_ms: int = 150, topic: str = "rec-replies-p") -> Any:
    address = parse_reply_address([("reply_to", topic.encode()), ("correlation_id", b"1")], b"")
    return RecRequest("r", "u", "home", deadline_ms=deadline_ms), Record(sent), address


async def come(pace: Pace, clock: ManualClock, *jobs: Any, idle_s: float = 1.0, partition: int = 0) -> None:
    """Let requests come after the worker has waited."""
    await clock.advance(idle_s)
    pace.begin(partition)
    pace.read(jobs)


async def test_time_in_kafka_and_in_this_process_counts() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    one = job(NOW + 1000 - 40)
    await come(pace, clock, one)
    assert round(pace.left(one), 3) == 0.110
    await clock.advance(0.07)
    assert round(pace.left(one), 3) == 0.040
    assert not pace.dropped(one)
    assert pace.rung(one) == "full"
    await clock.advance(0.05)
    assert pace.rung(one) == "popular"


async def test_a_reply_has_time_for_its_way_back() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    for deadline_ms, way_back in ((100, 0.025), (2000, 0.05)):
        for left, rung in ((way_back + 0.01, "full"), (way_back - 0.01, "popular")):
            one = job(clock.now_ms() + 1000, deadline_ms)
            await come(pace, clock, one)
            await clock.advance(deadline_ms / 1000 - left)
            assert not pace.dropped(one)
            assert pace.rung(one) == rung
            pace.end()


async def test_expired_requests_are_dropped_only_when_that_is_wanted() -> None:
    clock = ManualClock(NOW)
    for drop in (False, True):
        pace = Pace(clock, drop=drop)
        old = job(clock.now_ms() - 5000)
        await come(pace, clock, old)
        assert pace.dropped(old) == drop
        assert pace.rung(old) == "popular"


async def test_a_clock_that_is_ahead_gives_no_more_time_than_there_is() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    one = job(NOW + 1000 + 30_000)
    await come(pace, clock, one)
    await clock.advance(0.1)
    assert round(pace.left(one), 3) == 0.050


async def test_a_clock_that_is_behind_costs_nothing_once_it_is_known() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    lefts = []
    for _ in range(3):
        one = job(clock.now_ms() + 1000 - 7000)
        await come(pace, clock, one)
        lefts.append(round(pace.left(one), 3))
        pace.end()
    assert lefts == [-6.85, 0.15, 0.15]
    waited = job(clock.now_ms() + 1000 - 7000 - 60)
    await come(pace, clock, waited)
    assert 0.085 < pace.left(waited) < 0.1, "what it waited besides still counts, nearly all of it"
    other = job(clock.now_ms() - 40, topic="rec-replies-other")
    assert round(pace.left(other), 3) == 0.110, "another caller has another clock"


async def test_a_backlog_is_no_wrong_clock() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    await come(pace, clock, job(NOW + 1000 - 5))
    pace.end()
    for _ in range(50):  # one batch after the other, all of them old
        old = job(clock.now_ms() - 4000)
        await come(pace, clock, old, idle_s=0.0)
        assert pace.left(old) < 0
        pace.end()
    await come(pace, clock, job(clock.now_ms() + 1000 - 4000), partition=5)
    pace.end()
    old = job(clock.now_ms() + 1000 - 4000)
    assert pace.left(old) < 0, "the first batch of a partition may have piled up"
    await clock.advance(100.0)
    await come(pace, clock, job(clock.now_ms() + 1000 - 9000))
    assert pace.left(job(clock.now_ms() - 4000)) < 0, "so may one that was not read for long"


def test_a_clock_that_was_set_is_believed_step_by_step() -> None:
    waiting = Waiting()
    for n in range(3):
        waiting.came(0, [("p", 5000.0)], 1.0, float(n))
    assert waiting.spent("p", 5030.0, 2.0) == 30
    waiting.came(0, [("p", 10.0)], 1.0, 4.0)
    assert waiting.spent("p", 5000.0, 0.0) == 4990, "faster: at once"
    for n in range(5, 60):
        waiting.came(0, [("p", 5000.0)], 1.0, float(n))
    assert waiting.spent("p", 5000.0, 0.0) < 50, "slower: slowly"
    assert waiting.spent("p", 3e9, 7.0) == 7, "nobody waits for a month"


async def test_a_pause_of_the_broker_is_no_wrong_clock() -> None:
    """After it an idle worker gets the oldest records of several partitions, and has enough to do then."""
    clock = ManualClock(NOW)
    pace = Pace(clock)
    for partition in range(4):
        for _ in range(2):
            await come(pace, clock, job(clock.now_ms() + 1000 - 5), partition=partition)
            pace.end()
    for _ in range(10):
        for partition in range(4):
            old = [job(clock.now_ms() - age + 30 * (partition == 0)) for age in range(330, 280, -3)]
            await come(pace, clock, *old, idle_s=0.03 if partition == 0 else 0.0, partition=partition)
            pace.end()
        for _ in range(100):  # requests wait for one another, 40 ms at least
            await come(pace, clock, job(clock.now_ms() - 40), idle_s=0.0)
            await clock.advance(0.05)
            pace.end()
    assert pace.left(job(clock.now_ms() - 300)) < -0.11, "at most the shortest wait is taken for the clock's"
    young = job(clock.now_ms() - 3)
    await come(pace, clock, young, idle_s=0.0)
    pace.end()
    assert pace.left(job(clock.now_ms() - 300)) < -0.145, "a young record corrects it, whoever waited"


def test_callers_cannot_fill_memory() -> None:
    waiting = Waiting()
    for n in range(5000):
        waiting.came(0, [(f"p{n}", 5.0)], 1.0, float(n % 50))
    assert len(waiting._clocks) <= 1001


async def test_while_the_queue_stands_lists_are_begun_early_or_are_cheap() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    await come(pace, clock, job(clock.now_ms() + 1000))
    rungs = []
    for _ in range(60):  # the turn of each request comes 80 ms after it was sent: 70 ms of its 150 are left
        await clock.advance(0.01)
        one = job(clock.now_ms() - 80)
        pace.turn(one)
        rungs.append(pace.rung(one))
    assert rungs[0] == "full", "33 ms are left before the way back"
    assert rungs[-1] == "popular", "and now 60 ms of the 150 may be over"
    assert rungs == ["full"] * rungs.index("popular") + ["popular"] * (60 - rungs.index("popular"))
    assert pace.rung(job(clock.now_ms() - 80, deadline_ms=1000)) == "full", "of 1000 ms 800 may be over"
    pace.end()
    await clock.advance(0.02)  # the broker is slow to hand out the next ones: they wait there
    old, one = job(clock.now_ms() - 80), job(clock.now_ms() - 7)
    pace.begin(0)
    pace.turn(old)
    assert pace.rung(old) == "popular"
    pace.turn(one)
    assert pace.rung(old) == "full", "one did not wait for others"


@pytest.mark.parametrize("every_ms", [25, 200, 400])
async def test_slow_rows_are_no_queue(every_ms: int) -> None:
    """One request at a time, and 60 of its 150 ms go by until its rows are read."""
    clock = ManualClock(NOW)
    pace = Pace(clock)
    for _ in range(60):
        pace.begin(0)
        one = job(clock.now_ms())
        pace.read([one])
        await clock.advance(0.06)
        pace.turn(one)
        assert pace.rung(one) == "full"
        pace.took("full", clock.monotonic() - 0.02)
        pace.end()
        await clock.advance(every_ms / 1000)


async def test_after_overload_lists_are_full_again() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    for _ in range(60):
        await clock.advance(0.01)
        one = job(clock.now_ms() - 100)
        pace.turn(one)
        rung = pace.rung(one)
    assert rung == "popular"
    pace.end()
    for _ in range(10):  # 9 ms go by until the turn of each, and a list takes 50 ms
        await clock.advance(0.1)
        one = job(clock.now_ms())
        pace.begin(0)
        pace.read([one])
        await clock.advance(0.009)
        pace.turn(one)
        assert pace.rung(one) == "full"
        pace.took("full", clock.monotonic() - 0.05)
        pace.end()


async def test_a_request_with_a_long_deadline_does_not_hide_a_queue() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    for number in range(60):
        await clock.advance(0.01)
        one = job(clock.now_ms() - 80, deadline_ms=60_000 if number % 20 == 0 else 150)
        pace.turn(one)
    assert pace.rung(job(clock.now_ms() - 80)) == "popular"


async def test_a_request_that_waits_for_a_state_says_nothing_of_the_queue() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    kept = job(NOW - 100)
    await come(pace, clock, kept)
    pace.keep(kept)
    for _ in range(60):
        await clock.advance(0.01)
        pace.turn(kept)
    pace.end()
    pace.begin(0)
    assert pace.rung(job(clock.now_ms() - 80)) == "full"


@pytest.mark.parametrize(
    ("behind", "milliseconds"),
    [([], 0.0), ([1, 6], 0.0), ([1, 7], 4.0), ([2, 4, 6], 6.0), ([256, 256], 10.0)],
)
def test_while_requests_wait_here_others_gather_at_the_broker(behind: list[int], milliseconds: float) -> None:
    pace = Pace(ManualClock(NOW))  # a request is believed to take a millisecond at least
    pace.queued = lambda: [[Record(NOW)] * count for count in behind]
    assert pace.fetch_delay_s() == pytest.approx(milliseconds / 1000)


def test_requests_whose_turn_has_not_come_wait_here_too() -> None:
    pace = Pace(ManualClock(NOW))
    pace.gather([Record(NOW)] * 8)
    assert pace.fetch_delay_s() == pytest.approx(0.004)
    pace.end()
    assert not pace.fetch_delay_s()
