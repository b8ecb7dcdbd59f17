"""Reading records of `events` and `items` into columns, with a verdict for each."""

from __future__ import annotations

from typing import Any

import polars as pl

from headrace.oracle.records.columns import columns_of
from headrace.oracle.records.documents import (
    RefusedError,
    array,
    choice,
    number,
    read_document,
    string,
    struct,
)
from headrace.oracle.records.frames import EVENTS, ITEMS, group_of_age, key_of
from headrace.oracle.records.places import AGAIN
from headrace.oracle.times import DAY_MS, MAX_TS, MIN_TS

_id, _label, _millis = string(1, 64), string(0, 128), number(MIN_TS, MAX_TS)
_event = struct(
    {
        "event_id": _id,
        "type": choice("click", "skip", "dwell", "like", "save", "follow", "hide"),
        "user_id": _id,
        "item_id": _id,
        "ts": _millis,
    },
    {
        "dwell_ms": number(0, DAY_MS),
        "request_id": string(0, 64),
        "position": number(0, 10_000),
        "surface": choice("home", "related", "digest"),
        "context": struct({}, {"country": _label, "device": _label, "ts": _millis, "age": number(0, 150)}),
        "scope": choice("item", "creator"),
    },
)
_item = struct(
    {"item_id": _id, "published_ts": _millis},
    {
        "title": string(0, 1000),
        "category": _label,
        "tags": array(_label, 64),
        "creator_id": string(0, 64),
        "language": _label,
        "duration_ms": number(0, MAX_TS),
        "countries": array(_label, 300),
        "blocked_countries": array(_label, 300),
        "min_age": number(0, 150),
        "flags": array(_label, 64),
        "boost": number(0, 100, (int, float)),
        "vector": array(number(-1e30, 1e30, (int, float)), 4096),
    },
)


def read_events(raw: pl.DataFrame, *, max_bytes: int, lateness_ms: int, future_ms: int) -> pl.DataFrame:
    """Return records of `events` as ``EVENTS``, a row for every row of ``raw``.

    Whether an event is too late or from the future depends on the timestamp of its own record.
    """

    def read(key: bytes | None, value: bytes | None, timestamp: int) -> tuple[Any, ...]:
        e = read_document(value, max_bytes, _event)
        user, item, kind, ts = e["user_id"], e["item_id"], e["type"], e["ts"]
        if key != user.encode():
            raise RefusedError("wrong_key")
        if kind == "dwell" and "dwell_ms" not in e:
            raise RefusedError("missing_field")
        if timestamp - ts > lateness_ms:
            raise RefusedError("too_late")
        if ts - timestamp > future_ms:
            raise RefusedError("from_the_future")
        context = e.get("context", {})
        country, group = context.get("country", ""), group_of_age(context.get("age", -1))
        dwell_ms = e["dwell_ms"] if kind == "dwell" else 0
        return (
            *(e["event_id"], key_of(user), user, key_of(item), item, kind, ts),
            *((dwell_ms + 500) // 1000, key_of(country), country, key_of(e.get("request_id", ""))),
            *(dwell_ms, e.get("scope") == "creator", group, True),
        )

    # A record without a key is in no partition of its own, whether it is sent on or names nobody.
    keyed = raw["key"].bin.size().fill_null(0) > 0
    return columns_of(raw, EVENTS, read).with_columns(moves_time=raw["place"].is_in(["", AGAIN]) & keyed)


def read_items(raw: pl.DataFrame, *, max_bytes: int) -> pl.DataFrame:
    """Return records of `items` as ``ITEMS``, a row for every row of ``raw``."""

    def read(key: bytes | None, value: bytes | None, _timestamp: int) -> tuple[Any, ...]:
        if value is None and key:
            name = key.decode("utf-8", "replace")
            return key_of(name), None, None, name, None, None
        i = read_document(value, max_bytes, _item)
        if key != i["item_id"].encode():
            raise RefusedError("wrong_key")
        category, creator = key_of(i.get("category", "")), key_of(i.get("creator_id", ""))
        return key_of(i["item_id"]), category, creator, i["item_id"], i["published_ts"], None

    return columns_of(raw, ITEMS, read).with_columns(sent_on=raw["origin"].is_not_null())
