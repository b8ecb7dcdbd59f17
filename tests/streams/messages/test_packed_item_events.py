"""The compact form of item events: nothing is lost, nothing malformed is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_item_events import MORE, NEW_COUNTRY, WEIGHT, largest, packable, plain_pack, values_of

from headrace.streams.messages.columns import ITEM_EVENT, KIND, KINDS, MAX_AMOUNT, MAX_TS, PACKED
from headrace.streams.messages.packed_item_events import (
    HEADER_BYTES,
    MOST_BYTES,
    pack_item_events,
    unpack_item_events,
)

Events = np.ndarray[Any, Any]
T = 1_700_000_000_000


def back(*values: bytes | None) -> Events:
    events, _, sound = unpack_item_events(values, range(len(values)))
    assert sound.all()
    return events


def refused(value: bytes | None) -> bool:
    events, offsets, sound = unpack_item_events([value], [7])
    assert len(events) == len(offsets) == int(sound[0]) * len(events)
    return not sound[0]


def clicks(n: int) -> Events:
    out = np.zeros(n, ITEM_EVENT)
    out["item"], out["country"] = np.arange(n) + 1 << 32, 9
    out["ts"], out["source_seq"], out["amount"] = T, np.arange(n), 1
    out["kind"] = KIND["click"]
    return out


@given(packable(), st.integers(1, 50))
def test_everything_comes_back(events: Events, per_record: int) -> None:
    values = values_of(events, per_record)
    assert len(values) == -(-len(events) // per_record)
    assert all(len(value) <= HEADER_BYTES + per_record * MOST_BYTES for value in values)
    found, offsets, sound = unpack_item_events(values, range(100, 100 + len(values)))
    assert sound.all()
    assert found.tobytes() == events.tobytes()
    assert offsets.tolist() == [100 + i // per_record for i in range(len(events))]


@given(packable())
def test_the_bytes_are_those_of_a_plain_reference(events: Events) -> None:
    assert values_of(events) == ([plain_pack(events)] if len(events) else [])


@pytest.mark.parametrize("countries", [1, 254, 255, 300])
def test_more_countries_come_back_than_a_record_can_number(countries: int) -> None:
    events = clicks(2 * PACKED)
    events["country"] = (np.arange(len(events)) % countries).astype(np.uint64) << np.uint64(50)
    assert back(*values_of(events)).tobytes() == events.tobytes()
    assert values_of(events)[0] == plain_pack(events[:PACKED])


def test_no_event_is_larger_than_the_largest() -> None:
    events = largest(200)
    blob, bounds = pack_item_events(events)
    assert back(blob.tobytes()).tobytes() == events.tobytes()
    assert bounds.tolist() == [0, HEADER_BYTES + 200 * MOST_BYTES]


def test_ordinary_events_are_small() -> None:
    events = clicks(PACKED)
    events["country"] = np.arange(PACKED) % 20 + 1
    events["ts"] += np.random.default_rng(1).integers(-1000, 1000, PACKED)
    (value,) = values_of(events)
    assert len(value) / PACKED < 15
    pairs = events.copy()
    pairs["kind"], pairs["other"], pairs["seq_weight"] = KIND["pair"], pairs["item"] + 1, 0.5
    (value,) = values_of(pairs)
    assert len(value) / PACKED < 27
    one_item = pairs.copy()
    one_item["item"], one_item["seq_weight"], one_item["country"] = 5, 0, 1
    (value,) = values_of(one_item)
    assert len(value) / PACKED < 14


@given(packable(12).filter(len), st.data())
def test_a_record_that_was_cut_or_made_longer_is_refused(events: Events, data: st.DataObject) -> None:
    (value,) = values_of(events)
    assert refused(value[: data.draw(st.integers(0, len(value) - 1))])
    assert refused(value + data.draw(st.binary(min_size=1, max_size=20)))


@given(packable(12).filter(len), st.data())
def test_changed_bytes_are_refused_or_are_sound_events(events: Events, data: st.DataObject) -> None:
    (value,) = values_of(events)
    raw = bytearray(value)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    found, _, sound = unpack_item_events([bytes(raw), value], [1, 2])
    assert found[len(found) - len(events) :].tobytes() == events.tobytes(), "the record after it is read"
    assert sound[1]
    read = found[: len(found) - len(events)]
    assert (read["kind"] < len(KINDS)).all()
    assert (read["item"] != 0).all()
    assert (read["ts"] >= read["span"]).all()
    assert ((read["ts"] <= MAX_TS) & (read["source_seq"] >= 0) & (read["amount"] <= MAX_AMOUNT)).all()
    assert ((read["seq_weight"] >= 0) & (read["seq_weight"] <= MAX_AMOUNT)).all()


@given(st.binary(max_size=300), st.integers(0, 40))
def test_noise_is_no_record(noise: bytes, count: int) -> None:
    for value in (noise, bytes([2, count, 0]) + noise):
        found, offsets, sound = unpack_item_events([value], [1])
        assert len(found) == len(offsets)
        assert sound[0] == (len(found) > 0)


@pytest.mark.parametrize("value", [None, b"", b"\x02", b"\x02\x00\x00", b"\x02\xff\xff", b"y" * 64])
def test_what_has_no_event_is_refused(value: bytes | None) -> None:
    assert refused(value)


def test_another_version_is_refused() -> None:
    (value,) = values_of(clicks(3))
    assert not refused(value)
    assert refused(b"\x01" + value[1:])
    assert refused(b"\x03" + value[1:])
    assert refused(clicks(3).tobytes())  # as 0.1.0 wrote them


IMPOSSIBLE: list[tuple[str, Any]] = [
    ("item", 0),
    ("ts", -1),
    ("ts", MAX_TS + 1),
    ("source_seq", -1),
    ("amount", MAX_AMOUNT + 1),
    ("seq_weight", -1),
    ("seq_weight", np.nan),
    ("seq_weight", np.inf),
    ("seq_weight", 2.0 * MAX_AMOUNT),
    ("span", 60_000),
]


@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.parametrize(("field", "value"), IMPOSSIBLE)
def test_an_impossible_field_refuses_the_record(field: str, value: Any, at: int) -> None:
    events = clicks(6)
    events["ts"] = 100
    fine = values_of(events)[0]
    events[field][at] = value
    bad = values_of(events)[0]
    found, offsets, sound = unpack_item_events([fine, bad, fine], [1, 2, 3])
    assert sound.tolist() == [True, False, True]
    assert offsets.tolist() == [1] * 6 + [3] * 6
    assert len(found) == 12


@pytest.mark.parametrize(
    "event",
    [
        b"\x01\x11" + bytes(2) + b"\x09",  # a country without a number
        b"\x01\x81" + bytes(2),  # an age group is missing
        b"\x01\x81" + bytes(2) + b"\x08",  # an age group that does not exist
        b"\x01\x06" + bytes(2) + bytes(8),  # both ways to say the other item
        b"\x01\x31" + bytes(2) + bytes(8),  # both ways to say the country
        b"\x01\x41" + bytes(2) + b"\x40",  # an unused bit of `more`
        b"\x01\x41" + bytes(2) + b"\x04\x00",  # a part of the reach
        b"\x09\x01" + bytes(2),  # a kind that does not exist
    ],
)
def test_an_event_that_contradicts_itself_refuses_the_record(event: bytes) -> None:
    (first,) = values_of(clicks(1))
    assert not refused(b"\x02\x02\x00" + first[3:] + b"\x01\x01\x00\x00")  # the same item once more
    assert refused(b"\x02\x02\x00" + first[3:] + event)


def test_unknown_kinds_and_other_arrays_are_not_packed() -> None:
    events = clicks(2)
    events["kind"][1] = len(KINDS)
    with pytest.raises(ValueError, match="kind 9"):
        pack_item_events(events)
    with pytest.raises(ValueError, match="ITEM_EVENT"):
        pack_item_events(np.zeros(3, np.uint8))
    for per_record in (0, 1 << 16):
        with pytest.raises(ValueError, match="in a record"):
            pack_item_events(events[:1], per_record)
    with pytest.raises(ValueError, match="2 offsets for 1 records"):
        unpack_item_events([b""], [1, 2])
    with pytest.raises(TypeError):
        unpack_item_events(["text"], [1])  # type: ignore[list-item]


def test_flags_have_the_bits_of_the_description() -> None:
    assert (WEIGHT, NEW_COUNTRY, MORE) == (0x800, 0x2000, 0x4000)
    events = clicks(1)
    events["seq_weight"] = 0.5
    (value,) = values_of(events)
    assert int.from_bytes(value[3:5], "little") & 0xFF00 == WEIGHT | NEW_COUNTRY
