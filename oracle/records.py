"""The oracle's own reading of raw records: JSON, types and ranges, written apart from the live decoder.

``headrace verify`` compares two computations of the same thing, so they share no code: the live system
decodes with msgspec (streams/messages/), this module with Python's own parser and the tables below. What both
must agree on is the public contract: unknown fields are ignored, the last of a repeated field counts but
every one must be sound, whole numbers are written without fraction or exponent, lengths are in characters.

Nobody's bytes are trusted: whatever a record holds, it gets a verdict and never an exception.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import polars as pl
import xxhash

#: The year 2100, ms.
MAX_TS: Final = 4_102_444_800_000
DAY_MS: Final = 86_400_000

#: Raw records, as they lie in a topic.
RAW: Final = pl.Schema(
    {
        "topic": pl.String,
        "partition": pl.Int32,
        "offset": pl.Int64,
        "timestamp": pl.Int64,
        "key": pl.Binary,
        "value": pl.Binary,
    }
)
_WHERE: Final[dict[str, Any]] = {"partition": pl.Int32, "offset": pl.Int64, "timestamp": pl.Int64}
#: What `events` holds, a row a record; ``verdict`` is "" for a valid one, else why it is not.
EVENTS: Final = pl.Schema(
    {
        **_WHERE,
        "verdict": pl.String,
        "event_id": pl.String,
        "user": pl.UInt64,
        "user_id": pl.String,
        "item": pl.UInt64,
        "item_id": pl.String,
        "kind": pl.String,
        "ts": pl.Int64,
        "dwell_s": pl.Int64,
        "country": pl.UInt64,
        "country_id": pl.String,
    }
)
#: What `impressions` holds, a row a record.
SHOWN: Final = pl.Schema(
    {
        **_WHERE,
        "verdict": pl.String,
        "user": pl.UInt64,
        "user_id": pl.String,
        "ts": pl.Int64,
        "country": pl.UInt64,
        "country_id": pl.String,
        "items": pl.List(pl.UInt64),
        "item_ids": pl.List(pl.String),
    }
)
#: What `items` holds, a row a record; category and creator are null where it withdraws the item.
ITEMS: Final = pl.Schema(
    {**_WHERE, "verdict": pl.String, "item": pl.UInt64, "category": pl.UInt64, "creator": pl.UInt64}
)
#: The users somebody asked to forget.
FORGOTTEN: Final = pl.Schema({**_WHERE, "user": pl.UInt64, "user_id": pl.String})


class _Refused(Exception):  # noqa: N818 - a verdict, never seen outside
    """Why a record is not valid."""


class _Object(list[tuple[str, Any]]):
    """A JSON object, with its repeated fields."""


def key_of(text: str) -> int:
    """Return the 64-bit id of ``text``: xxh3, 0 for the empty string only."""
    return (int(xxhash.xxh3_64_intdigest(text.encode())) or 1) if text else 0


# --- JSON ---


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _whole(text: str) -> int:
    return int(text) if len(text) < 40 else (-1 if text[0] == "-" else 1) * 10**40


_parse = json.JSONDecoder(
    object_pairs_hook=_Object, parse_constant=_no_constant, parse_int=_whole, strict=True
).decode
_escape = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def _document(body: bytes) -> Any:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body.decode("utf-8", "surrogateescape")  # tolerated in what is ignored
    try:
        if "\\u" in text:
            _check_surrogates(text)
        return _parse(text)
    except (ValueError, RecursionError):
        raise _Refused("undecodable") from None


def _check_surrogates(text: str) -> None:
    """Raise ``ValueError`` when an escape is half of a pair: two halves stand right after one another."""
    high_ends = -1
    for found in _escape.finditer(text):
        code = int(found[1], 16) if found[1] else 0
        if high_ends >= 0 and not (0xDC00 <= code < 0xE000 and found.start() == high_ends):
            raise ValueError("half a pair")
        if high_ends < 0 and 0xDC00 <= code < 0xE000:
            raise ValueError("half a pair")
        high_ends = found.end() if 0xD800 <= code < 0xDC00 else -1
    if high_ends >= 0:
        raise ValueError("half a pair")


# --- types and ranges ---

Check = Callable[[Any], Any]


def _string(low: int = 0, high: int | None = None) -> Check:
    def check(value: Any) -> str:
        if type(value) is not str or len(value) < low or (high is not None and len(value) > high):
            raise _Refused("invalid_field")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise _Refused("undecodable") from None
        return value

    return check


def _number(low: float, high: float, types: tuple[type, ...] = (int,)) -> Check:
    def check(value: Any) -> Any:
        if type(value) not in types or not low <= value <= high:
            raise _Refused("invalid_field")
        return value

    return check


def _optional(inner: Check) -> Check:
    return lambda value: None if value is None else inner(value)


def _choice(*names: str) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not str or value not in names:
            raise _Refused("invalid_field")
        return value

    return check


def _array(inner: Check, high: int) -> Check:
    def check(value: Any) -> list[Any]:
        if type(value) is not list or len(value) > high:
            raise _Refused("invalid_field")
        return [inner(v) for v in value]

    return check


def _struct(required: dict[str, Check], optional: dict[str, Check]) -> Check:
    checks = {**required, **optional}

    def check(value: Any) -> dict[str, Any]:
        if type(value) is not _Object:
            raise _Refused("invalid_field")
        found = {name: checks[name](content) for name, content in value if name in checks}
        if not required.keys() <= found.keys():
            raise _Refused("missing_field")
        return found

    return check


_id, _label, _millis = _string(1, 64), _string(0, 128), _number(0, MAX_TS)
_event = _struct(
    {
        "event_id": _id,
        "type": _choice("click", "skip", "dwell", "like", "save", "follow", "hide"),
        "user_id": _id,
        "item_id": _id,
        "ts": _millis,
    },
    {
        "dwell_ms": _optional(_number(0, DAY_MS)),
        "request_id": _string(0, 64),
        "position": _optional(_number(0, 10_000)),
        "surface": _optional(_choice("home", "related", "digest")),
        "context": _struct({}, {"country": _label, "device": _label, "ts": _optional(_millis)}),
    },
)
_impression = _struct({"user_id": _id, "ts": _millis, "country": _string(), "item_ids": _array(_id, 512)}, {})
_item = _struct(
    {"item_id": _id, "published_ts": _millis},
    {
        "title": _string(0, 1000),
        "category": _label,
        "tags": _array(_label, 64),
        "creator_id": _string(0, 64),
        "language": _label,
        "duration_ms": _optional(_millis),
        "countries": _array(_label, 300),
        "blocked_countries": _array(_label, 300),
        "min_age": _number(0, 150),
        "flags": _array(_label, 64),
        "boost": _number(0, 100, (int, float)),
    },
)


def _read(body: bytes | None, max_bytes: int, shape: Check) -> dict[str, Any]:
    if body is None:
        raise _Refused("empty")
    if len(body) > max_bytes:
        raise _Refused("too_large")
    found: dict[str, Any] = shape(_document(body))
    return found


# --- records to columns ---


def _columns(raw: pl.DataFrame, schema: pl.Schema, read: Callable[..., tuple[Any, ...]]) -> pl.DataFrame:
    """Return a row a record: what ``read(key, value, timestamp)`` says, or its verdict and nulls."""
    nothing = (None,) * (len(schema) - len(_WHERE) - 1)
    rows = []
    for where in raw.select(*_WHERE, "key", "value").iter_rows():
        *place, key, value = where
        try:
            rows.append((*place, "", *read(key, value, place[-1])))
        except _Refused as why:
            rows.append((*place, str(why), *nothing))
    return pl.DataFrame(rows, schema, orient="row")


def read_events(raw: pl.DataFrame, *, max_bytes: int, lateness_ms: int, future_ms: int) -> pl.DataFrame:
    """Read `events` records: ``EVENTS``, a row for every row of ``raw``.

    Too late and from the future are verdicts of the record's own timestamp.
    """

    def read(key: bytes | None, value: bytes | None, timestamp: int) -> tuple[Any, ...]:
        e = _read(value, max_bytes, _event)
        user, item, kind, ts = e["user_id"], e["item_id"], e["type"], e["ts"]
        if key != user.encode():
            raise _Refused("wrong_key")
        if kind == "dwell" and e.get("dwell_ms") is None:
            raise _Refused("missing_field")
        if timestamp - ts > lateness_ms:
            raise _Refused("too_late")
        if ts - timestamp > future_ms:
            raise _Refused("from_the_future")
        country = e.get("context", {}).get("country", "")
        seconds = (e["dwell_ms"] + 500) // 1000 if kind == "dwell" else 0
        return (
            *(e["event_id"], key_of(user), user, key_of(item), item, kind, ts),
            *(seconds, key_of(country), country),
        )

    return _columns(raw, EVENTS, read)


def read_shown(raw: pl.DataFrame, *, max_bytes: int) -> pl.DataFrame:
    """Read `impressions` records: ``SHOWN``, a row for every row of ``raw``."""

    def read(_key: bytes | None, value: bytes | None, _timestamp: int) -> tuple[Any, ...]:
        i = _read(value, max_bytes, _impression)
        user, country, items = i["user_id"], i["country"], i["item_ids"]
        return key_of(user), user, i["ts"], key_of(country), country, list(map(key_of, items)), items

    return _columns(raw, SHOWN, read)


def read_items(raw: pl.DataFrame, *, max_bytes: int) -> pl.DataFrame:
    """Read `items` records: ``ITEMS``, a row for every row of ``raw``."""

    def read(key: bytes | None, value: bytes | None, _timestamp: int) -> tuple[Any, ...]:
        if value is None and key:
            return key_of(key.decode("utf-8", "replace")), None, None
        i = _read(value, max_bytes, _item)
        if key != i["item_id"].encode():
            raise _Refused("wrong_key")
        return key_of(i["item_id"]), key_of(i.get("category", "")), key_of(i.get("creator_id", ""))

    return _columns(raw, ITEMS, read)


def read_forgotten(raw: pl.DataFrame) -> pl.DataFrame:
    """Return the records of `users` that ask to forget somebody: ``FORGOTTEN``."""
    asked = raw.filter(pl.col("value").is_null() & (pl.col("key").bin.size() > 0))
    keys: Iterable[bytes] = asked["key"]
    names = [key.decode("utf-8", "replace") for key in keys]
    return asked.select(
        *_WHERE,
        pl.Series("user", [key_of(n) for n in names], pl.UInt64),
        pl.Series("user_id", names, pl.String),
    )


def raw_records(topic: str, partition: int, records: Iterable[Any]) -> pl.DataFrame:
    """Return Kafka records of one partition (key, value, offset, timestamp) as ``RAW``."""
    kept = list(records)
    return pl.DataFrame(
        {
            "topic": [topic] * len(kept),
            "partition": [partition] * len(kept),
            "offset": [r.offset for r in kept],
            "timestamp": [r.timestamp for r in kept],
            "key": [r.key for r in kept],
            "value": [r.value for r in kept],
        },
        RAW,
    )
