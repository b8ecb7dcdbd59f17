"""The columns of raw and of decoded records, a row for every record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import polars as pl
import xxhash

from headrace.oracle.records.siphash import siphash13

#: Header of a record that was sent on to its partition: ``<topic>/<partition>/<offset>`` of the original.
FORWARDED: Final = "headrace-from"
#: Header of a null that hides the record of its key in a wrong partition, and place of a record that has it.
CLEARS: Final = "headrace-clears"
CLEARED: Final = "cleared"
#: Raw records, as they are in a topic. ``origin`` is the header ``FORWARDED``; ``place`` is ``CLEARED`` where
#: the header ``CLEARS`` is, else "", and then the verdict of ``Places``: why it does not count where it is.
RAW: Final = pl.Schema(
    {
        "topic": pl.String,
        "partition": pl.Int32,
        "offset": pl.Int64,
        "timestamp": pl.Int64,
        "key": pl.Binary,
        "value": pl.Binary,
        "origin": pl.String,
        "place": pl.String,
    }
)
#: Partition and offset of a record, and its own timestamp (ms).
PLACE: Final[dict[str, Any]] = {"partition": pl.Int32, "offset": pl.Int64, "timestamp": pl.Int64}
#: Records of `events`; ``verdict`` is "" for a valid record, else the reason why it is not valid.
EVENTS: Final = pl.Schema(
    {
        **PLACE,
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
        "request": pl.UInt64,  # key of the request_id, 0 without one
        "dwell_ms": pl.Int64,
        "of_creator": pl.Boolean,  # whether a hide is of everything by the item's creator
        "age_group": pl.UInt8,  # of the age in its context; 0: none
        "moves_time": pl.Boolean,  # whether its timestamp counts for the stream time of its partition
    }
)
#: Records of `impressions`. The columns after ``age_group`` are null where it is not joined with events.
SHOWN: Final = pl.Schema(
    {
        **PLACE,
        "verdict": pl.String,
        "user": pl.UInt64,
        "user_id": pl.String,
        "ts": pl.Int64,
        "country": pl.UInt64,
        "country_id": pl.String,
        "items": pl.List(pl.UInt64),
        "item_ids": pl.List(pl.String),
        "age_group": pl.UInt8,
        "online": pl.String,
        "request": pl.UInt64,
        "unshown": pl.List(pl.UInt64),  # candidates that were not shown; the lists below go on with them
        "propensities": pl.List(pl.Float64),
        "features": pl.List(pl.UInt64),  # digest of the features of each slot
        "rest": pl.List(pl.UInt64),  # digest of what else an example repeats
        "surface": pl.UInt64,
    }
)
#: Records of `items`; category, creator and published are null where the record withdraws the item.
ITEMS: Final = pl.Schema(
    {
        **PLACE,
        "verdict": pl.String,
        "item": pl.UInt64,
        "category": pl.UInt64,
        "creator": pl.UInt64,
        "item_id": pl.String,
        "published": pl.Int64,
        "sent_on": pl.Boolean,  # it has the header ``FORWARDED``
    }
)
#: Records of `users`: profiles, and tombstones (``gone``), whose profile columns are null. ``named`` is the
#: 64-bit key of the record's own key, also where the record is refused.
USERS: Final = pl.Schema(
    {
        **PLACE,
        "verdict": pl.String,
        "user": pl.UInt64,
        "user_id": pl.String,
        "gone": pl.Boolean,
        "country": pl.UInt64,
        "language": pl.UInt64,
        "age": pl.Int64,
        "preferred": pl.List(pl.UInt64),
        "followed": pl.List(pl.UInt64),
        "named": pl.UInt64,
        "sent_on": pl.Boolean,  # it has the header ``FORWARDED``
    }
)
#: Records of `examples`: one labelled slot each.
EXAMPLES: Final = pl.Schema(
    {
        **PLACE,
        "verdict": pl.String,
        "user": pl.UInt64,
        "user_id": pl.String,
        "request": pl.UInt64,
        "ts": pl.Int64,
        "position": pl.Int64,
        "item": pl.UInt64,
        "propensity": pl.Float64,
        "features": pl.UInt64,
        "rest": pl.UInt64,
        "clicked": pl.Boolean,
        "dwell_ms": pl.Int64,
        "liked": pl.Boolean,
        "hidden": pl.Boolean,
        "label": pl.String,  # null in examples of older versions
    }
)

#: Records of `examples`, as the arms of a rollout are counted from them.
OUTCOMES: Final = pl.Schema(
    {
        **PLACE,
        "verdict": pl.String,
        "user": pl.UInt64,
        "ts": pl.Int64,
        "ranker": pl.String,
        "settings": pl.String,
        "spec": pl.String,
        "clicked": pl.Boolean,
        "dwell_ms": pl.Int64,
        "propensity": pl.Float64,
        "score": pl.Float64,
        "shadow": pl.String,  # the ranker in the shadow; null, as the next two, without one
        "match": pl.Boolean,
        "value": pl.Float64,
    }
)


@lru_cache(maxsize=1_000_000)
def key_of(text: str) -> int:
    """Return the 64-bit key of ``text``: its SipHash-1-3, and 0 for the empty string only."""
    return (siphash13(text.encode(), *_Secret.words) or 1) if text else 0


def group_of_age(years: int) -> int:
    """Return 1 for an age below 18 years, 2 below 25, then one more every 10 years up to 65; 0 below 0."""
    if years < 0:
        return 0
    return 1 + sum(years >= first for first in (18, 25, 35, 45, 55, 65))


class _Secret:
    """The key of the hash: two 64-bit words."""

    words: tuple[int, int] = (0, 0)


def use_secret(secret: str) -> None:
    """Use the key that a secret text stands for: the first 16 bytes of its BLAKE2b."""
    digest = hashlib.blake2b(secret.encode(), digest_size=16, person=b"headrace ids").digest()
    _Secret.words = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    key_of.cache_clear()


use_secret("")


def digest(content: bytes) -> int:
    """Return 64 bits that stand for ``content`` in a comparison."""
    return int(xxhash.xxh3_64_intdigest(content))


def raw_records(topic: str, partition: int, records: Iterable[Any]) -> pl.DataFrame:
    """Return Kafka records of one partition (key, value, offset, timestamp, headers) as ``RAW``."""
    kept = list(records)
    return pl.DataFrame(
        {
            "topic": [topic] * len(kept),
            "partition": [partition] * len(kept),
            "offset": [r.offset for r in kept],
            "timestamp": [r.timestamp for r in kept],
            "key": [r.key for r in kept],
            "value": [r.value for r in kept],
            "origin": [_origin(r.headers) if r.headers else None for r in kept],
            "place": [CLEARED if any(h[0] == CLEARS for h in r.headers or ()) else "" for r in kept],
        },
        RAW,
    )


def _origin(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    found = (value for name, value in headers if name == FORWARDED)
    value = next(found, None)
    return None if value is None else value.decode("ascii", "replace")
