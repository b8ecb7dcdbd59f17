"""Records of `items`, decoded and checked: for who keeps a catalogue, in memory or in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.schemas import Item


def check_item(item: Item, record: Any) -> None:
    """Raise ``RejectedError`` when a record's key is not its item id: no tombstone could delete the item."""
    check_key(record, "item_id", item.item_id)


def all_keyed(items: Sequence[Item], records: Sequence[Any]) -> bool:
    """Return whether ``check_item`` accepts all of some items and their records."""
    return [r.key for r in records] == [item.item_id.encode() for item in items]


class Last(NamedTuple):
    """The last record of each item in a batch, with its offset: tombstones, and items."""

    gone: list[str]
    gone_at: list[int]
    put: list[Item]
    put_at: list[int]


def last_of_each(records: Sequence[Any], decoder: Decoder[Item]) -> Last:
    """Return the last record of each item. Bad records and those without a key are left out."""
    bodies = [r for r in records if r.value is not None]
    decoded = decoder.batch(bodies)
    if len(bodies) == len(records) and len({item.item_id for item in decoded.values}) == len(decoded.values):
        return Last([], [], decoded.values, [r.offset for r in decoded.records])
    tombstones = {r.key.decode("utf-8", "replace"): r.offset for r in records if r.value is None and r.key}
    items = {item.item_id: (item, r.offset) for item, r in zip(decoded.values, decoded.records, strict=True)}
    for item_id in tombstones.keys() & items.keys():
        if tombstones[item_id] < items[item_id][1]:
            del tombstones[item_id]
        else:
            del items[item_id]
    return Last(
        list(tombstones),
        list(tombstones.values()),
        [item for item, _ in items.values()],
        [offset for _, offset in items.values()],
    )


def item_decoder(max_bytes: int) -> Decoder[Item]:
    """Return what decodes records of `items`; one that is larger, or has another key than its id, is bad."""
    return Decoder(Item, max_bytes, check_item, all_keyed)
