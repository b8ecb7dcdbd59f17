"""How long a list may take while others wait."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from typing import Any

import pytest

from headrace.serving.requests.address import parse_reply_address
from headrace.serving.requests.backlog import Backlog
from headrace.serving.requests.deadlines import Deadlines, deadline_s
from headrace.serving.requests.pace import Pace
from headrace.streams.clock import ManualClock
from headrace.streams.messages.schemas import RecRequest

NOW = 1_700_000_000_000


@dataclass
class Record:
    timestamp: int
    offset: int = 0
    value: bytes | None = b"{}"


def job(record: Record, deadline_ms: int = 150) -> Any:
    address = parse_reply_address([("reply_to", b"rec-replies-p"), ("correlation_id", b"1")], b"")
    return RecRequest("r", "u", "home", deadline_ms=deadline_ms), record, address


def enveloped(value: bytes) -> bytes:
    """Faust's envelope of ``agent.ask()``."""
    tag = {"ns": "@ReqRepRequest"}
    body = {"value": json.loads(value), "reply_to": "t", "correlation_id": "1", "__faust": tag}
    return json.dumps(body).encode()


def known(each_s: float = 0.002) -> Backlog:
    backlog = Backlog()
    for _ in range(200):
        backlog.took(10, 10 * each_s)
    return backlog


def test_the_tightest_of_those_behind_decides() -> None:
    backlog = known()
    assert backlog.each_s == pytest.approx(0.002, rel=1e-3)
    assert backlog.spare([]) == math.inf
    # What is left, less 40 ms for the way back, less 2 ms for it and for each before it.
    assert backlog.spare([(0.12, 0.04, 0)]) == pytest.approx(0.078, abs=1e-4)
    assert backlog.spare([(0.12, 0.04, 9)]) == pytest.approx(0.060, abs=1e-4)
    three = [(0.12, 0.04, 0), (0.08, 0.04, 1), (0.14, 0.04, 30)]
    assert backlog.spare(three) == pytest.approx(0.036, abs=1e-4)
    late = backlog.spare([(0.025, 0.04, 0)])
    assert late < 0, "it is late for its way back, and perhaps not for its caller"


def test_those_that_are_lost_do_not_count() -> None:
    backlog = known()
    assert backlog.spare([(0.001, 0.04, 0), (0.05, 0.04, 60), (-3.0, 0.04, 0)]) == math.inf
    assert backlog.spare([(0.001, 0.04, 0), (0.1, 0.04, 0)]) == pytest.approx(0.058, abs=1e-4)


def test_the_deadline_of_a_request_is_found_without_reading_it() -> None:
    plain = b'{"request_id": "r", "user_id": "u", "surface": "home"%s}'
    one = {b"": 0.15, b', "deadline_ms": 40': 0.04, b', "deadline_ms": null': 0.15, b', "x": [1]': 0.15}
    for more, expected in one.items():
        for value in (plain % more, enveloped(plain % more)):
            assert deadline_s(Record(0, value=value), 1000) == expected
    refused = [
        None,
        b"",
        b"{",
        b"[]",
        b'{"deadline_ms": "soon"}',
        b'{"deadline_ms": 40, "x": "%s"}' % bytes(1000),
    ]
    assert [deadline_s(Record(0, value=value), 1000) for value in refused] == [math.inf] * len(refused)


def test_a_deadline_is_looked_for_once_while_its_request_waits() -> None:
    deadlines, record = Deadlines(1000), Record(0, value=b'{"deadline_ms": 40}')
    for _ in range(2):
        deadlines.begin()
        assert deadlines.of(record) == 0.04
        record.value = b"not looked at"
    deadlines.begin()
    deadlines.begin()
    assert deadlines.of(record) == math.inf, "it did not wait"


async def test_a_short_deadline_counts_for_its_own_request_alone() -> None:
    """A caller that asks for a reply in 5 ms does not make the lists of all others worse."""
    clock = ManualClock(NOW)
    pace = Pace(clock)
    now = clock.now_ms()
    for short in range(20):
        one = job(Record(now - 50, short, b'{"deadline_ms": 5}'), 5)
        pace.gather([one[1]])
        pace.begin(0)
        pace.turn(one)
        pace.end()
    mine = job(Record(now, 30))
    pace.gather([mine[1]])
    pace.begin(1)
    pace.turn(mine)
    pace.queued = lambda: [[Record(now - 20)], [Record(now - 1, value=b'{"deadline_ms": 60000}')]]
    pace.took("full", clock.monotonic() - 0.04)
    assert pace.rung(mine) == "full"
    pace.queued = lambda: [[Record(now - 20, value=b'{"deadline_ms": 70}')]]
    assert pace.rung(mine) == "fewer", "in 50 ms a list of 40 and the way back are not possible"


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
