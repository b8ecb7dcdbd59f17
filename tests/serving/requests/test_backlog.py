"""How long a list may take while others wait."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import pytest

from headrace.serving.requests.address import parse_reply_address
from headrace.serving.requests.backlog import Backlog
from headrace.serving.requests.pace import Pace
from headrace.streams.clock import ManualClock
from headrace.streams.messages.schemas import RecRequest

NOW = 1_700_000_000_000


@dataclass
class Record:
    timestamp: int
    offset: int = 0


def job(record: Record, deadline_ms: int = 150) -> Any:
    address = parse_reply_address([("reply_to", b"rec-replies-p"), ("correlation_id", b"1")], b"")
    return RecRequest("r", "u", "home", deadline_ms=deadline_ms), record, address


def known(each_s: float = 0.002, deadline_s: float = 0.15) -> Backlog:
    backlog = Backlog()
    for _ in range(200):
        backlog.took(10, 10 * each_s)
    backlog.asked(deadline_s)
    return backlog


def test_the_tightest_of_those_behind_decides() -> None:
    backlog = known()
    assert backlog.each_s == pytest.approx(0.002, rel=1e-3)
    assert backlog.spare([], 0.04) == math.inf
    # 150 ms, less 40 for the way back, less its age, less 2 ms for it and for each before it.
    assert backlog.spare([(0.03, 0)], 0.04) == pytest.approx(0.078, abs=1e-4)
    assert backlog.spare([(0.03, 9)], 0.04) == pytest.approx(0.060, abs=1e-4)
    assert backlog.spare([(0.03, 0), (0.07, 1), (0.01, 30)], 0.04) == pytest.approx(0.036, abs=1e-4)
    assert backlog.spare([(0.125, 0)], 0.04) < 0, (
        "it is late for its way back, and perhaps not for its caller"
    )


def test_those_that_are_lost_do_not_count() -> None:
    backlog = known()
    assert backlog.spare([(0.149, 0), (0.1, 60)], 0.04) == math.inf
    assert backlog.spare([(0.149, 0), (0.05, 0)], 0.04) == pytest.approx(0.058, abs=1e-4)


def test_the_shortest_deadline_lately_counts() -> None:
    backlog = known(deadline_s=0.15)
    for _ in range(255):
        backlog.asked(60.0)
    assert backlog.spare([(0.1, 0)], 0.04) < 0.01
    for _ in range(512):
        backlog.asked(60.0)
    assert backlog.spare([(0.1, 0)], 0.04) > 59
    assert Backlog().spare([(1.0, 1)], 0.04) == math.inf, "nothing was asked yet"


async def test_a_request_that_has_time_leaves_it_to_an_older_one_in_another_partition() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    now, ahead = clock.now_ms(), [Record(clock.now_ms() - 5, n) for n in range(3)]
    pace.gather(ahead)
    pace.begin(0)
    rungs = []
    for waiting in ([], [[Record(now - 60)]], [[Record(now - 20)], [Record(now - 113)]]):
        pace.queued = functools.partial(list, waiting)
        one = job(ahead[0])
        pace.turn(one)
        rungs.append(pace.rung(one))
        pace.took("full", clock.monotonic() - 0.04)
    assert rungs == ["full", "full", "popular"], "40 ms: one of 60 ms can wait for them, one of 113 cannot"
    pace.queued = lambda: [[Record(now - 1000)]]
    assert pace.rung(one) == "full", "that one is late, whatever is done for it"


async def test_all_of_a_burst_are_in_time() -> None:
    """40 requests at once, 10 ms for a full list and 1 ms for any: as many are full as there is time for."""
    clock = ManualClock(NOW)
    pace = Pace(clock)
    sent = clock.now_ms()
    for _ in range(3):  # what a list takes is known after the first of them
        records, rungs, ages = [Record(clock.now_ms(), n) for n in range(40)], [], []
        sent = clock.now_ms()
        pace.gather(records)
        pace.begin(0)
        for record in records:
            one = job(record)
            pace.turn(one)
            rungs.append(pace.rung(one))
            began = clock.monotonic()
            if rungs[-1] != "popular":
                await clock.advance(0.01)
                pace.took(rungs[-1], began)
            await clock.advance(0.001)
            ages.append(clock.now_ms() - sent)
        pace.end()
        await clock.advance(2)
    assert 4 <= 40 - rungs.count("popular") <= 8
    assert max(ages) <= 113, "37 ms are left for the way back"


async def test_what_waits_for_a_state_is_not_among_them() -> None:
    clock = ManualClock(NOW)
    pace = Pace(clock)
    kept = job(Record(clock.now_ms() - 5, 7))
    pace.gather([Record(clock.now_ms(), 0), kept[1]])
    pace.begin(0)
    pace.keep(kept)
    pace.turn(kept)
    assert pace._next == 0
    assert pace.rung(kept) == "full"
