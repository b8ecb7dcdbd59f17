"""A plain reference of packed item events, byte for byte, and helpers for tests that use them."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from headrace.streams.messages.ages import N_GROUPS
from headrace.streams.messages.columns import ITEM_EVENT, KINDS, MAX_AMOUNT, MAX_TS, PACKED
from headrace.streams.messages.packed_item_events import pack_item_events

Events = np.ndarray[Any, Any]
VERSION = 2
SAME_ITEM, NEW_OTHER, SAME_OTHER, WEIGHT, KNOWN_COUNTRY, NEW_COUNTRY, MORE, AGE = (
    1 << bit for bit in range(8, 16)
)
REACH, SPAN, SOURCE, ALONE = (1 << bit for bit in range(2, 6))
#: Times, numbers and ids that a distance of every size lies between.
_numbers = st.sampled_from([0, 1, 127, 128, 300, 40_000, 1 << 31, 1 << 33, (1 << 62) + 5]) | st.integers(
    0, 2**63 - 1
)
_ids = st.integers(1, 6) | st.integers(1, 2**64 - 1)


def values_of(events: Events, per_record: int = PACKED) -> list[bytes]:
    """Return the values of the records with ``events``."""
    blob, bounds = pack_item_events(events, per_record)
    return [blob[a:b].tobytes() for a, b in pairwise(bounds)]


def largest(n: int) -> Events:
    """Return item events that differ in every field, so that they are packed in as many bytes as can be."""
    out = np.zeros(n, ITEM_EVENT)
    for name in ("item", "other", "country", "reach"):
        out[name] = 7 * np.arange(n) + (1 << 20)
    first = np.arange(n) % 2 == 0
    out["ts"], out["source_seq"] = np.where(first, MAX_TS, 9), np.where(first, 2**63 - 1, 0)
    out["amount"], out["seq_weight"], out["span"] = MAX_AMOUNT, 0.1, 9
    out["source_partition"], out["age_group"] = np.arange(n) % 2 + 1, N_GROUPS - 1
    return out


def plain_pack(events: Events) -> bytes:
    """Return the value of one record."""
    out = [struct.pack("<BH", VERSION, len(events))]
    before = np.zeros((), ITEM_EVENT)
    other, countries = 0, [0]
    for e in events:
        out.append(_pack(e, before, other, countries))
        other = int(e["other"]) or other
        if e["country"] not in countries and len(countries) < 255:
            countries.append(int(e["country"]))
        before = e
    return b"".join(out)


def _pack(e: Any, before: Any, other: int, countries: list[int]) -> bytes:
    ts, seq = (_zigzag(int(e[name]) - int(before[name])) for name in ("ts", "source_seq"))
    head = int(e["kind"]) | _code(ts) << 4 | _code(seq) << 6
    body = _sized(ts) + _sized(seq)
    if e["item"] == before["item"]:
        head |= SAME_ITEM
    else:
        body += e["item"].tobytes()
    if e["other"]:
        head |= SAME_OTHER if e["other"] == other else NEW_OTHER
        body += b"" if e["other"] == other else e["other"].tobytes()
    if any(e["seq_weight"].tobytes()):
        head |= WEIGHT
        body += e["seq_weight"].tobytes()
    if e["country"] != before["country"]:
        known = int(e["country"]) in countries
        head |= KNOWN_COUNTRY if known else NEW_COUNTRY
        body += bytes([countries.index(int(e["country"]))]) if known else e["country"].tobytes()
    if e["age_group"]:
        head |= AGE
        body += bytes([e["age_group"]])
    more = _more(e, before)
    return struct.pack("<H", head | (MORE if any(more) else 0)) + body + (more if any(more) else b"")


def _more(e: Any, before: Any) -> bytes:
    more, body = 0, b""
    if e["amount"] != 1:
        more |= 1 + _code(int(e["amount"]))
        body += _sized(int(e["amount"]))
    distance = int(e["source_seq"]) - int(before["source_seq"])
    if e["reach"] != (int(before["reach"]) + distance & 0xFFFFFFFF if before["reach"] else 0):
        more |= REACH
        body += e["reach"].tobytes()
    for name, flag, known in (("span", SPAN, 0), ("source_partition", SOURCE, before["source_partition"])):
        if e[name] != known:
            more |= flag
            body += e[name].tobytes()
    return bytes([more | (ALONE if e["alone"] else 0)]) + body


def _zigzag(distance: int) -> int:
    distance = (distance + (1 << 63)) % (1 << 64) - (1 << 63)  # as 64-bit numbers wrap around
    return distance << 1 if distance >= 0 else -distance * 2 - 1


def _code(number: int) -> int:
    return (number > 0xFF) + (number > 0xFFFF) + (number > 0xFFFFFFFF)


def _sized(number: int) -> bytes:
    return number.to_bytes(1 << _code(number), "little")


@st.composite
def packable(draw: st.DrawFn, max_size: int = 40) -> Events:
    """Draw item events of any valid content, ``ITEM_EVENT``."""
    n = draw(st.integers(0, max_size))
    out = np.zeros(n, ITEM_EVENT)
    for e in out:
        e["item"], e["country"] = draw(_ids), draw(_ids | st.just(0))
        e["kind"], e["alone"] = draw(st.integers(0, len(KINDS) - 1)), draw(st.integers(0, 1))
        e["age_group"] = draw(st.just(0) | st.integers(0, N_GROUPS - 1))
        e["span"] = draw(st.sampled_from([0, 0, 1, 59_999, 65_535]))
        e["ts"] = max(int(e["span"]), min(draw(_numbers), MAX_TS))
        e["source_seq"] = draw(_numbers)
        e["amount"] = draw(st.sampled_from([1, 0, 1, 2, 255, 256, 65_536, MAX_AMOUNT]))
        e["reach"] = draw(st.sampled_from([0, 0, 1, 2, 300, 0xFFFFFFFF]))
        e["source_partition"] = draw(st.sampled_from([0, 0, 1, 1 << 15]))
        if draw(st.booleans()):
            e["other"] = draw(_ids)
            e["seq_weight"] = draw(
                st.sampled_from([0, -0.0, 1, 1 / 3, 1e-40]) | st.floats(0, MAX_AMOUNT, width=32)
            )
    return out
