"""Every time of every message, on every path in: milliseconds, not seconds or microseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from strategies import T0, record

from headrace.agents.follow_catalog import CatalogFollower
from headrace.serving.catalog import Catalog
from headrace.serving.requests.read import RequestReader
from headrace.streams.errors import ConfigError
from headrace.streams.messages import schemas
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.files import read_globo, read_jsonl
from headrace.streams.messages.schemas import MAX_TS, MIN_TS, Event, Example, Impression, Item, RecRequest
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.transport.batches import RecordBatch

EVENT = {"event_id": "e", "type": "click", "user_id": "u", "item_id": "i", "ts": T0}
REQUEST = {"request_id": "r", "user_id": "u", "surface": "home"}
ITEM = {"item_id": "i", "published_ts": T0}
WRONG = [0, 1, T0 // 1000, MIN_TS - 1, MAX_TS + 1, T0 * 1000]
NEVER_IN_SECONDS = {"dwell_ms", "duration_ms", "deadline_ms", "took_ms", "retry_after_ms"}  # lengths of time


def test_every_time_has_the_type_of_times() -> None:
    """Whoever adds a time to a message meets this list."""
    found = {}
    for type_ in (t for t in vars(schemas).values() if isinstance(t, type) and issubclass(t, msgspec.Struct)):
        for field in msgspec.structs.fields(type_):
            timely = field.name == "ts" or field.name.endswith(("_ts", "_ms", "_after"))
            if timely and field.name not in NEVER_IN_SECONDS:
                found[f"{type_.__name__}.{field.name}"] = field.type
    times = {"Context.ts", "Event.ts", "Item.published_ts", "Impression.ts", "Example.ts"}
    times |= {"Filters.published_after"}
    assert found.keys() == times
    assert {
        name for name, type_ in found.items() if type_ not in (schemas.Millis, schemas.Millis | None)
    } == set()


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    ("type_", "fields", "path"),
    [
        (Event, EVENT, "ts"),
        (Event, EVENT, "context.ts"),
        (Item, ITEM, "published_ts"),
        (RecRequest, REQUEST, "context.ts"),
        (RecRequest, REQUEST, "filters.published_after"),
    ],
)
def test_a_time_in_another_unit_is_refused(
    type_: type[Any], fields: dict[str, Any], path: str, wrong: int
) -> None:
    outer, _, inner = path.partition(".")
    body = json.dumps({**fields, outer: {inner: wrong} if inner else wrong}).encode()
    decoder = Decoder(type_, 10_000)
    out = decoder.batch([record(json.dumps(fields).encode()), record(body)])
    assert len(out.values) == 1
    ((_, error),) = out.rejects
    assert (error.reason, error.field) == ("out_of_range", path)
    assert "times are milliseconds since 1970" in error.detail


@pytest.mark.parametrize("right", [MIN_TS, 915_148_800_000, T0, T0 + 365 * DAY_MS, MAX_TS])
def test_old_items_and_planned_ones_are_accepted(right: int) -> None:
    body = json.dumps({"item_id": "i", "published_ts": right}).encode()
    (item,) = Decoder(Item, 10_000).batch([record(body)]).values
    assert item.published_ts == right


@pytest.mark.parametrize("wrong", WRONG)
def test_messages_of_our_own_are_checked_alike(wrong: int) -> None:
    shown = Impression("r", "u", "home", wrong, "", "", "", "", "", ["i"], [1.0], [False], [0.0], b"", [])
    example = Example(
        "r", "u", "i", "home", 0, wrong, "", "", "", "", 0.1, True, 1.5, True, 0, False, False, b""
    )
    for value in (shown, example):
        ((_, error),) = Decoder(type(value), 10_000).batch([record(msgspec.json.encode(value))]).rejects
        assert (error.reason, error.field) == ("out_of_range", "ts")


def test_an_item_published_in_seconds_is_not_in_the_catalogue() -> None:
    follower = CatalogFollower(Catalog())
    records = [
        record(json.dumps({"item_id": name, "published_ts": ts}).encode(), key=name.encode(), offset=n)
        for n, (name, ts) in enumerate([("seconds", T0 // 1000), ("now", T0)])
    ]
    follower.apply(RecordBatch("items", 0, records))
    assert len(follower.catalog) == 1


def test_a_request_in_seconds_gets_an_error_that_names_the_field() -> None:
    asked = record(json.dumps({**REQUEST, "context": {"ts": T0 // 1000}}).encode())
    asked.headers = [("reply_to", b"rec-replies"), ("correlation_id", b"1")]
    jobs, ((_, address, error),) = RequestReader(Settings()).read([asked])
    assert (jobs, error.reason, error.field) == ([], "out_of_range", "context.ts")
    assert address is not None


@pytest.mark.parametrize("wrong", WRONG)
def test_files_for_replay(tmp_path: Path, wrong: int) -> None:
    lines = tmp_path / "events.jsonl"
    lines.write_text(json.dumps({**EVENT, "ts": wrong}))
    with pytest.raises(ConfigError, match=r"events\.jsonl, line 1: ts: .*milliseconds"):
        list(read_jsonl(lines))
    clicks = tmp_path / "clicks.csv"
    columns = "user_id,session_id,click_article_id,click_timestamp,click_deviceGroup,click_region"
    clicks.write_text(f"{columns}\nu,s,i,{wrong},1,2\n")
    with pytest.raises(ConfigError, match=r"clicks\.csv, line 2: click_timestamp must be milliseconds"):
        list(read_globo(clicks))
