"""The catalogue from records of `items`: wrong partitions, ids with one key, a catalogue loaded again."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from strategies import T0
from worlds import item

from headrace.agents.follow_catalog import CatalogFollower
from headrace.serving import catalog as catalog_module
from headrace.serving.catalog import Catalog
from headrace.serving.index.hot import HotIndex
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import HOUR_MS
from headrace.streams.topics.sender import partition_of
from headrace.streams.transport.batches import RecordBatch

ITEMS = 20_000
YOUNG = 1500


class Rec(NamedTuple):
    key: bytes | None
    value: bytes | None
    offset: int = 0
    timestamp: int = T0
    headers: tuple[Any, ...] = ()


def record(new: Item, key: bytes | None = None) -> Rec:
    return Rec(new.item_id.encode() if key is None else key, msgspec.json.encode(new))


def batch(records: list[Rec], partition: int = 0) -> RecordBatch:
    return RecordBatch("items", partition, records)


def test_records_in_the_wrong_partition_or_without_a_key_are_left_to_track_users() -> None:
    follower = CatalogFollower(Catalog())
    follower.partitions = 4
    new = item(1)
    right = partition_of(b"i1", 4)
    wrong = (right + 1) % 4
    keyless = Rec(None, msgspec.json.encode(new))
    follower.apply(batch([record(new), record(item(2), b"")], wrong))
    follower.apply(batch([keyless], right))
    assert len(follower.catalog) == 0
    follower.apply(batch([record(new)], right))
    follower.apply(batch([Rec(b"i1", None)], wrong))
    assert len(follower.catalog) == 1, "a tombstone in the wrong partition, too"
    follower.apply(batch([Rec(b"i1", None)], right))
    assert len(follower.catalog) == 0


def two_keys(texts: list[str]) -> np.ndarray[Any, Any]:
    return np.array([hash64(text) % 2 or 2 if text else 0 for text in texts], np.uint64)


def test_of_two_items_with_one_key_the_first_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(catalog_module, "hash_many", two_keys)
    follower = CatalogFollower(Catalog(), hot=HotIndex(48 * HOUR_MS))
    first = next(item(n) for n in range(9) if hash64(f"i{n}") % 2)
    second = next(item(n) for n in range(9, 99) if hash64(f"i{n}") % 2)
    other = next(item(n) for n in range(99) if not hash64(f"i{n}") % 2)
    follower.apply(batch([record(first), record(second), record(other)]), T0)
    catalog = follower.catalog
    assert [catalog.id_of(1), catalog.id_of(2)] == [first.item_id, other.item_id]
    follower.apply(batch([Rec(second.item_id.encode(), None)]))
    assert catalog.id_of(1) == first.item_id, "the other one's tombstone does not delete it"
    assert [r.action for r in caplog.records] == ["id_collision"] * 2  # type: ignore[attr-defined]
    follower.apply(batch([Rec(first.item_id.encode(), None), record(second)]))
    assert catalog.id_of(1) == second.item_id


class Loaded:
    """A catalogue of 20,000 items, 1,500 of them young, and its hot index."""

    def __init__(self) -> None:
        self.hot = HotIndex(48 * HOUR_MS)
        self.follower = CatalogFollower(Catalog(), hot=self.hot)
        self.catalog = self.follower.catalog

    def load(self, skip: range = range(0), moved_ms: int = 0, title: str = "Title") -> float:
        """Send every item; return the seconds it took."""
        records = [
            record(
                item(
                    n,
                    title=f"{title} number {n}",
                    published_ts=T0 - (HOUR_MS if n < YOUNG else 100 * HOUR_MS) + moved_ms,
                    countries=["BR", "US"] if n % 10 == 0 else [],
                )
            )
            for n in range(ITEMS)
            if n not in skip
        ]
        began = time.process_time()
        for first in range(0, len(records), 4000):
            self.follower.apply(batch(records[first : first + 4000]), T0)
            self.hot.expire(T0)
        return time.process_time() - began

    def sizes(self) -> dict[str, int]:
        c, h = self.catalog, self.hot
        h.settle()
        settled = len(h._settled) if h._settled else 0
        held = {name: len(getattr(c, name)) for name in ("_names", "_allowed", "_blocked")}
        return {
            **held,
            "items": len(c),
            "bytes": c.table.nbytes,
            "texts": c._texts.nbytes,
            "rows": len(c.table.view()),
            "hot": len(h),
            "hot bytes": h._alive.nbytes,
            "points": settled + h._tail.used,
            "dead": h._tail.dead + (h._settled.dead if h._settled else 0),
        }


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    loaded = Loaded()
    loaded.first_s = loaded.load()  # type: ignore[attr-defined]
    return loaded


def test_a_catalogue_loaded_again_takes_no_more_room_or_time(loaded: Loaded) -> None:
    before = loaded.sizes()
    assert (before["items"], before["hot"]) == (ITEMS, YOUNG)
    again = [loaded.load() for _ in range(2)]
    assert loaded.sizes() == before
    assert min(again) < 1.5 * loaded.first_s  # type: ignore[attr-defined]


def test_times_that_move_with_every_load_do_not_pile_up(loaded: Loaded) -> None:
    before = loaded.sizes()
    for n in range(1, 7):
        loaded.load(moved_ms=n, skip=range(YOUNG, ITEMS))
    assert len(loaded.hot._by_age) <= 2 * YOUNG + 1000
    assert loaded.sizes() == before
    assert loaded.hot.expire(T0 + 47 * HOUR_MS + 6) == 0
    assert loaded.hot.expire(T0 + 47 * HOUR_MS + 7) == YOUNG
    loaded.load(skip=range(YOUNG, ITEMS))
    assert len(loaded.hot) == YOUNG


def test_texts_that_change_with_every_load_do_not_pile_up(loaded: Loaded) -> None:
    before = loaded.sizes()
    for n in range(4):
        loaded.load(title=f"Version {n}", skip=range(YOUNG, ITEMS))
    after = loaded.sizes()
    assert after["points"] - after["dead"] <= YOUNG
    assert after["points"] <= 2 * YOUNG + 1000
    assert {k: after[k] for k in ("items", "hot", "bytes")} == {
        k: before[k] for k in ("items", "hot", "bytes")
    }
    assert after["texts"] - before["texts"] == YOUNG * len("Version 3"[len("Title") :])


def test_what_a_load_leaves_out_stays_until_its_tombstone(loaded: Loaded) -> None:
    gone = range(0, ITEMS, 10)
    before = loaded.sizes()
    loaded.load(skip=gone)
    assert loaded.sizes()["items"] == ITEMS
    loaded.follower.apply(batch([Rec(f"i{n}".encode(), None) for n in gone]))
    assert loaded.sizes()["items"] == ITEMS - len(gone)
    assert loaded.sizes()["hot"] == YOUNG - YOUNG // 10
    loaded.load()
    after = loaded.sizes()
    assert (after["items"], after["rows"], after["hot"]) == (ITEMS, before["rows"], YOUNG)
    assert after["bytes"] < before["bytes"] + 20_000  # the index has grown once
