"""The load of a chaos run: the system refuses exactly its bad records; it has repetitions of every sort."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from chaos_load import AGAIN, BAD, GOOD, MARK, Limits, Load
from chaos_world import World

from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.schemas import (
    Event,
    Filters,
    Item,
    RecRequest,
    UserProfile,
    check_event,
    check_request,
)
from headrace.streams.settings import HOUR_MS, MINUTE_MS

T0 = 1_800_000_000_000
LIMITS = Limits(
    lateness_ms=30 * HOUR_MS, future_ms=5 * MINUTE_MS, max_event_bytes=65_536, dedup_window_ms=15_000
)


@dataclass
class Record:
    key: bytes | None
    value: bytes | None
    timestamp: int
    mark: bytes
    offset: int = 0
    headers: Any = ()


def produce(seed: int, seconds: int = 80, per_tick: int = 30) -> list[Record]:
    load = Load(seed, World(seed, 500, 200), LIMITS)
    out = []
    for tick in range(seconds * 20):
        now = T0 + tick * 50
        if tick % 7 == 0:
            load.react(tick % 500, f"r-{tick}", ["item-00001", "item-00002", "item-00003"], now)
        records = load.take(now, per_tick)
        if tick % 400 == 399:
            records += load.recent_again(now)
        out += [Record(k, v, ts or 0, dict(headers)[MARK]) for k, v, ts, headers in records]
    return out


@pytest.fixture(scope="module")
def produced() -> list[Record]:
    return produce(1)


def test_the_same_seed_makes_the_same_records() -> None:
    assert produce(3, seconds=3) == produce(3, seconds=3)
    assert produce(3, seconds=3) != produce(4, seconds=3)


def accepted(record: Record) -> Event | None:
    def check(event: Event, r: Any) -> None:
        check_key(r, "user_id", event.user_id)
        check_event(event, r.timestamp, LIMITS.lateness_ms, LIMITS.future_ms)

    try:
        return Decoder(Event, LIMITS.max_event_bytes, check).one(record)
    except RejectedError:
        return None


def test_marked_bad_is_what_the_system_refuses(produced: list[Record]) -> None:
    wrong = [r for r in produced if (accepted(r) is None) != (r.mark == BAD)]
    assert not wrong[:3]


def test_there_is_enough_of_everything(produced: list[Record]) -> None:
    marks = Counter(r.mark for r in produced)
    assert marks[BAD] > len(produced) * 0.015
    assert marks[AGAIN] > len(produced) * 0.03
    assert marks[GOOD] > len(produced) * 0.9
    events = [(r, e) for r in produced if (e := accepted(r))]
    kinds = Counter(e.type for _, e in events)
    assert min(kinds.values()) > 1000
    assert len(kinds) == 7
    late = [r.timestamp - e.ts for r, e in events]
    assert sum(x > HOUR_MS for x in late) > 100
    assert sum(x > 25 * HOUR_MS for x in late) > 10
    assert sum(x < -MINUTE_MS for x in late) > 100
    assert sum(bool(e.request_id) for _, e in events) > 100
    assert {e.dwell_ms for _, e in events} >= {0, 499, 500, 86_400_000}
    hides = Counter(e.scope for _, e in events if e.type == "hide")
    assert min(hides["item"], hides["creator"]) > 300


def test_repetitions_lie_within_the_window_and_outside(produced: list[Record]) -> None:
    last: dict[tuple[str, str], int] = {}
    within = outside = 0
    stream_time = 0
    for record in produced:
        stream_time = max(stream_time, record.timestamp)
        event = accepted(record)
        if event is None:
            continue
        key = (event.user_id, event.event_id)
        if key in last:
            if stream_time - last[key] <= LIMITS.dedup_window_ms:
                within += 1
            else:
                outside += 1
        last[key] = stream_time
    assert within > 500
    assert outside > 300


def test_profiles_items_and_requests() -> None:
    world = World(1, 500, 200)
    load = Load(1, world, LIMITS)
    for _, value, _, headers in load.profiles(300):
        good = dict(headers)[MARK] == GOOD
        try:
            msgspec.json.decode(value or b"", type=UserProfile)
        except msgspec.ValidationError:
            assert not good
        else:
            assert good
    assert all(value is None and key for key, value, _, _ in load.farewells(3))
    for _, value, _, _ in load.bad_items(10):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(value or b"", type=Item)
    assert len({i.item_id for i in world.items(T0)}) == 200


def test_bad_requests_are_what_the_system_refuses_and_there_are_all_kinds() -> None:
    load = Load(1, World(1, 500, 200), LIMITS)
    requests = [load.request(i) for i in range(1500)]
    decoder = Decoder(RecRequest, LIMITS.max_event_bytes, lambda q, _: check_request(q))
    for _, request, bad in requests:
        refused = decoder.batch([Record(b"", msgspec.json.encode(request), T0, GOOD)]).rejects
        assert bool(refused) == bad
    fine = [r for _, r, bad in requests if not bad]
    assert 5 < len(requests) - len(fine) < 80
    assert min(sum(bool(getattr(r, name)) for r in fine) for name in ("seen", "candidates", "lists")) > 100
    assert sum(r.filters != Filters() for r in fine) > 100
    assert {one.surface for r in fine for one in r.lists} == {"home", "related", "digest"}
