from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.demo.replay import (
    CHUNK,
    FirstClicks,
    Timeline,
    chunks,
    encode_events,
    encode_items,
    source,
    span,
)
from headrace.streams.errors import ConfigError
from headrace.streams.messages.schemas import Event, Item


def event(number: int, ts: int, item: str = "i1", user: str = "u1") -> Event:
    return Event(f"e{number}", "click", user, item, ts)


def test_records_are_keyed_by_user_and_dated_by_the_event() -> None:
    (key, value, ts, headers) = encode_events([event(1, 123)])[0]
    assert (key, ts, list(headers)) == (b"u1", 123, [])
    assert value is not None
    assert json.loads(value)["event_id"] == "e1"
    assert encode_items([Item("i1", 55)])[0][2] == 55
    assert encode_items([Item("i1", 55)], 77)[0][2] == 77


def test_an_article_is_published_at_its_first_click() -> None:
    first = FirstClicks()
    items = first([event(1, 10, "a"), event(2, 20, "b"), event(3, 30, "a")])
    assert [(i.item_id, i.published_ts) for i in items] == [("a", 10), ("b", 20)]
    assert first([event(4, 40, "b"), event(5, 50, "c")]) == [Item("c", 50)]


def test_full_speed_never_waits_and_chunks_are_bounded() -> None:
    timeline = Timeline(0, 2 * CHUNK, 1_000_000, 0)
    parts = list(chunks((event(i, i) for i in range(2 * CHUNK + 1)), timeline, None))
    assert [(len(part), wait) for part, wait in parts] == [(CHUNK, 0.0), (CHUNK, 0.0), (1, 0.0)]
    assert parts[-1][0][-1].ts == 1_000_000  # the recording ends now


def test_recorded_times_can_be_kept() -> None:
    timeline = Timeline(0, 5000, 1_000_000, 0, keep=True)
    assert timeline.moved(event(1, 123)).ts == 123


def test_a_speed_follows_event_time() -> None:
    #  event time   0 s      1 s   1 s         5 s
    #  at speed 2   now      0.5 s later       2.5 s later
    now = [1_000_000.0]
    timeline = Timeline(0, 5000, int(now[0]), 2.0)
    events = iter([event(0, 0), event(1, 1000), event(2, 1000), event(3, 5000)])
    parts = []
    for part, wait in chunks(events, timeline, lambda due: max(0.0, (due - now[0]) / 1000)):
        parts.append(([e.ts - 1_000_000 for e in part], wait))
        now[0] += 1000 * wait
    assert parts == [([0], 0.0), ([500, 500], 0.5), ([2500], 2.0)]


def test_an_empty_recording_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no events"):
        span(iter([]))


def test_jsonl_source(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    times = [1_700_000_000_000 + i for i in range(3)]
    event = {"type": "click", "user_id": "u", "item_id": "i"}
    lines = [json.dumps({**event, "event_id": f"e{ts}", "ts": ts}) for ts in times]
    path.write_text("\n".join(lines) + "\n{}\n")
    assert [e.ts for e in source(path, "jsonl", 3)] == times
    with pytest.raises(ConfigError, match="line 4"):
        list(source(path, "jsonl"))
