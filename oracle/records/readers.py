"""Reading records of `events`, `impressions`, `items` and `users` into columns, with a verdict for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

from headrace.oracle.records.documents import (
    RefusedError,
    array,
    choice,
    number,
    optional,
    read_document,
    string,
    struct,
)
from headrace.oracle.records.frames import EVENTS, ITEMS, PLACE, SHOWN, key_of
from headrace.oracle.times import DAY_MS, MAX_TS

_id, _label, _millis = string(1, 64), string(0, 128), number(0, MAX_TS)
_event = struct(
    {
        "event_id": _id,
        "type": choice("click", "skip", "dwell", "like", "save", "follow", "hide"),
        "user_id": _id,
        "item_id": _id,
        "ts": _millis,
    },
    {
        "dwell_ms": optional(number(0, DAY_MS)),
        "request_id": string(0, 64),
        "position": optional(number(0, 10_000)),
        "surface": optional(choice("home", "related", "digest")),
        "context": struct({}, {"country": _label, "device": _label, "ts": optional(_millis)}),
    },
)
_impression = struct({"user_id": _id, "ts": _millis, "country": string(), "item_ids": array(_id, 512)}, {})
_item = struct(
    {"item_id": _id, "published_ts": _millis},
    {
        "title": string(0, 1000),
        "category": _label,
        "tags": array(_label, 64),
        "creator_id": string(0, 64),
        "language": _label,
        "duration_ms": optional(_millis),
        "countries": array(_label, 300),
        "blocked_countries": array(_label, 300),
        "min_age": number(0, 150),
        "flags": array(_label, 64),
        "boost": number(0, 100, (int, float)),
    },
)

#: Takes a record's key, value and timestamp. Returns the values of the columns after ``verdict``, or raises
#: ``RefusedError``.
Read = Callable[[bytes | None, bytes | None, int], tuple[Any, ...]]


def _columns(raw: pl.DataFrame, schema: pl.Schema, read: Read) -> pl.DataFrame:
    """Return the columns that ``read`` returns for every record; for a refused one, the verdict and nulls."""
    nothing = (None,) * (len(schema) - len(PLACE) - 1)
    rows = []
    for record in raw.select(*PLACE, "key", "value").iter_rows():
        *place, key, value = record
        try:
            rows.append((*place, "", *read(key, value, place[-1])))
        except RefusedError as why:
            rows.append((*place, str(why), *nothing))
    return pl.DataFrame(rows, schema, orient="row")


def read_events(raw: pl.DataFrame, *, max_bytes: int, lateness_ms: int, future_ms: int) -> pl.DataFrame:
    """Return records of `events` as ``EVENTS``, a row for every row of ``raw``.

    Whether an event is too late or from the future depends on the timestamp of its own record.
    """

    def read(key: bytes | None, value: bytes | None, timestamp: int) -> tuple[Any, ...]:
        e = read_document(value, max_bytes, _event)
        user, item, kind, ts = e["user_id"], e["item_id"], e["type"], e["ts"]
        if key != user.encode():
            raise RefusedError("wrong_key")
        if kind == "dwell" and e.get("dwell_ms") is None:
            raise RefusedError("missing_field")
        if timestamp - ts > lateness_ms:
            raise RefusedError("too_late")
        if ts - timestamp > future_ms:
            raise RefusedError("from_the_future")
        country = e.get("context", {}).get("country", "")
        seconds = (e["dwell_ms"] + 500) // 1000 if kind == "dwell" else 0
        return (
            *(e["event_id"], key_of(user), user, key_of(item), item, kind, ts),
            *(seconds, key_of(country), country),
        )

    return _columns(raw, EVENTS, read)


def read_shown(raw: pl.DataFrame, *, max_bytes: int) -> pl.DataFrame:
    """Return records of `impressions` as ``SHOWN``, a row for every row of ``raw``."""

    def read(_key: bytes | None, value: bytes | None, _timestamp: int) -> tuple[Any, ...]:
        i = read_document(value, max_bytes, _impression)
        user, country, items = i["user_id"], i["country"], i["item_ids"]
        return key_of(user), user, i["ts"], key_of(country), country, list(map(key_of, items)), items

    return _columns(raw, SHOWN, read)


def read_items(raw: pl.DataFrame, *, max_bytes: int) -> pl.DataFrame:
    """Return records of `items` as ``ITEMS``, a row for every row of ``raw``."""

    def read(key: bytes | None, value: bytes | None, _timestamp: int) -> tuple[Any, ...]:
        if value is None and key:
            return key_of(key.decode("utf-8", "replace")), None, None
        i = read_document(value, max_bytes, _item)
        if key != i["item_id"].encode():
            raise RefusedError("wrong_key")
        return key_of(i["item_id"]), key_of(i.get("category", "")), key_of(i.get("creator_id", ""))

    return _columns(raw, ITEMS, read)


def read_forgotten(raw: pl.DataFrame) -> pl.DataFrame:
    """Return the records of `users` that ask to forget a user: ``PLACE``, user (its 64-bit key), user_id."""
    asked = raw.filter(pl.col("value").is_null() & (pl.col("key").bin.size() > 0))
    keys: Iterable[bytes] = asked["key"]
    names = [key.decode("utf-8", "replace") for key in keys]
    return asked.select(
        *PLACE,
        pl.Series("user", [key_of(n) for n in names], pl.UInt64),
        pl.Series("user_id", names, pl.String),
    )
