"""Records of `items`: checked all at once, they are what they are when each is checked."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0, record

from headrace.agents.stage.item_records import check_item, item_decoder, last_of_each
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import Item

IDS = st.sampled_from(["a", "b", "ü"])
KEYS = IDS.map(str.encode) | st.sampled_from([None, b"\xff"])


@st.composite
def item_records(draw: st.DrawFn) -> list[Any]:
    out = list[Any]()
    for offset in range(draw(st.integers(0, 8))):
        name, kind = draw(IDS), draw(st.sampled_from(["item", "item", "item", "other key", "bad", "gone"]))
        body = msgspec.json.encode(Item(name, T0, title=f"{offset}"))
        value = {"bad": b"{", "gone": None}.get(kind, body)
        out.append(record(value, key=draw(KEYS) if kind == "other key" else name.encode(), offset=offset))
    return out


@given(item_records())
def test_a_batch_is_checked_as_each_record_is(records: list[Any]) -> None:
    bodies = [r for r in records if r.value is not None]
    found, plain = item_decoder(1000).batch(bodies), Decoder(Item, 1000, check_item).batch(bodies)
    assert (found.values, found.records) == (plain.values, plain.records)
    assert [(r, str(why)) for r, why in found.rejects] == [(r, str(why)) for r, why in plain.rejects]


@given(item_records())
def test_the_last_record_of_each_item_counts(records: list[Any]) -> None:
    last: dict[str, tuple[Item | None, int]] = {}
    for r in records:
        if r.value is None:
            last[r.key.decode()] = None, r.offset
        elif sound := Decoder(Item, 1000, check_item).batch([r]).values:
            last[sound[0].item_id] = sound[0], r.offset
    found = last_of_each(records, item_decoder(1000))
    assert dict(zip(found.gone, found.gone_at, strict=True)) == {
        name: at for name, (item, at) in last.items() if item is None
    }
    put = zip((item.item_id for item in found.put), zip(found.put, found.put_at, strict=True), strict=True)
    assert dict(put) == {name: (item, at) for name, (item, at) in last.items() if item is not None}
