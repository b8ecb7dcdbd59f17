"""Records of all partitions applied together and in slices: as if each had been applied alone."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0
from worlds import item

from headrace.agents.follow_catalog import CatalogFollower
from headrace.agents.stage.slices import Pace, cut
from headrace.agents.wiring import Wiring
from headrace.serving import catalog as catalog_module
from headrace.serving.attributes import ItemAttributes
from headrace.serving.catalog import Catalog
from headrace.serving.index.hot import HotIndex
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.topics.sender import BatchSender, partition_of
from headrace.streams.transport.batches import RecordBatch

PARTITIONS = 3
IDS = [f"i{n}" for n in range(12)]


class Rec(NamedTuple):
    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int = T0
    headers: tuple[Any, ...] = ()


def value(item_id: str, version: int) -> bytes:
    """Return an item's version: its title, category, age and country rules differ."""
    return msgspec.json.encode(
        item(
            item_id,
            item_id=item_id,
            title=f"Version {version} of {item_id}",
            category=f"c{version % 3}",
            published_ts=T0 - (1 + 30 * (version % 3)) * HOUR_MS,
            countries=["BR"] if version % 2 else [],
        )
    )


#: Item, version; a tombstone; a bad value; the value of another item; a record of another partition.
changes = st.lists(
    st.tuples(
        st.sampled_from(IDS), st.sampled_from(["put", "put", "put", "gone", "bad", "other", "astray"]),
        st.integers(0, 5), st.integers(1, 3),
    ),
    max_size=40,
)  # fmt: skip


def logs(steps: list[tuple[str, str, int, int]]) -> list[RecordBatch]:
    """Return the records by partition; offsets have gaps, as after compaction."""
    out: list[list[Rec]] = [[] for _ in range(PARTITIONS)]
    for item_id, what, version, gap in steps:
        partition = (partition_of(item_id.encode(), PARTITIONS) + (what == "astray")) % PARTITIONS
        at = out[partition][-1].offset + gap if out[partition] else gap
        body = {"gone": None, "bad": b'{"item_id":', "other": value("someone", version)}
        out[partition].append(Rec(item_id.encode(), body.get(what, value(item_id, version)), at))
    return [RecordBatch("items", p, records) for p, records in enumerate(out) if records]


def follower() -> CatalogFollower[Catalog]:
    out = CatalogFollower(Catalog(), HotIndex(48 * HOUR_MS))
    out.partitions = PARTITIONS
    return out


def state(of: CatalogFollower[Catalog]) -> dict[str, Any]:
    """Return all that readers see of a catalogue and its hot index."""
    catalog, hot = of.catalog, of._hot
    assert hot is not None
    keys = hash_many(IDS)
    keys = keys[catalog.find(keys) >= 0]
    rows = catalog.find(keys)
    noted = catalog._changes._table.view()
    return {
        "ids": [catalog.id_of(key) for key in keys.tolist()],
        "titles": [catalog.title_of(key) for key in keys.tolist()],
        "columns": [catalog.column(name, rows).tolist() for name in catalog_module.ROW.names or ()],
        "vectors": np.round(catalog.vectors.of(keys), 5).tolist(),
        "content": catalog.vectors.content.features_of(keys).keys.tolist(),
        "rules": catalog.all_allowed_in(keys, rows, 7).tolist(),
        "newest": catalog.newest.newest(T0, 50).tolist(),
        "groups": [catalog.newest.by_category(hash64(f"c{n}"), T0, 50).tolist() for n in range(3)],
        "size": len(catalog),
        "hot": sorted(zip(*hot.ages(), strict=True)),
        "found": sorted(hot.search(np.ones(64, np.float32), 50)[0].tolist()),
        "noted": sorted(row[["key", "place", "part", "gone"]].tolist() for row in noted[noted["key"] != 0]),
    }


@given(changes, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_slices_leave_the_catalogue_that_single_records_do(
    steps: list[tuple[str, str, int, int]], sizes: list[int]
) -> None:
    alone, together = follower(), follower()
    attributes, one_by_one = CatalogFollower(ItemAttributes()), CatalogFollower(ItemAttributes())
    attributes.partitions = one_by_one.partitions = PARTITIONS
    for batch in logs(steps):
        for record in batch.records:
            for of in (alone, one_by_one):
                of.apply(RecordBatch("items", batch.partition, [record]), T0)
    waiting, turn = deque(logs(steps)), 0
    while waiting:
        part = cut(waiting, sizes[turn % len(sizes)])
        assert sum(map(len, part)) <= sizes[turn % len(sizes)]
        together.apply_all(part, T0)
        attributes.apply_all(part, T0)
        turn += 1
    assert state(together) == state(alone)
    every = hash_many(IDS)
    for found, expected in zip(
        attributes.catalog.attributes(every), one_by_one.catalog.attributes(every), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert len(attributes.catalog) == len(one_by_one.catalog) == len(alone.catalog)


def test_records_are_cut_in_order_and_none_is_lost() -> None:
    waiting = deque(logs([(i, "put", 1, 2) for i in IDS]))
    expected = {batch.partition: [r.offset for r in batch.records] for batch in waiting}
    got: dict[int, list[int]] = {p: [] for p in expected}
    while waiting:
        part = cut(waiting, 2)
        assert 1 <= sum(map(len, part)) <= 2
        for batch in part:
            got[batch.partition] += [r.offset for r in batch.records]
    assert got == expected
    assert cut(waiting, 5) == []


def test_a_pace_is_learnt_and_is_never_nothing() -> None:
    pace = Pace()
    for _ in range(50):
        pace.took(100, 0.002)
    assert pace.records(0.004) == pytest.approx(200, abs=2)
    for _ in range(50):
        pace.took(1, 1.0)
    assert pace.records(0.004) == 1


def wiring() -> Wiring:
    settings = Settings()
    nobody = BatchSender(settings)
    return Wiring(settings, nobody, nobody, MemoryStore(), clock=ManualClock(T0))


async def test_what_is_said_to_be_applied_is_applied_and_nothing_else_when_it_is_stopped() -> None:
    batches = logs([(i, "put", n, 2) for n, i in enumerate(IDS)])
    one, applied = follower(), dict[int, int]()
    one._pace.took(1, 1000)  # so slow that a slice is one record
    task = asyncio.create_task(one.follow(batches, wiring(), applied))
    seen = 0
    while seen < 7:
        await asyncio.sleep(0)
        assert len(one.catalog) - seen in (0, 1), "the loop has its turn after every slice"
        seen = len(one.catalog)
        had = [r.key.decode() for b in batches for r in b.records if r.offset < applied.get(b.partition, 0)]
        assert sorted(had) == sorted(i for i in IDS if one.catalog.find(hash_many([i]))[0] >= 0)
        one._pace._record_s = 1000.0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(one.catalog) == 7
    rest = [
        RecordBatch("items", b.partition, left)
        for b in batches
        if (left := [r for r in b.records if r.offset >= applied.get(b.partition, 0)])
    ]
    await one.follow(rest, wiring(), applied)
    whole = follower()
    whole.apply_all(batches, T0)
    assert state(one) == state(whole)
    assert applied == {b.partition: b.last_offset + 1 for b in batches}


async def test_slices_are_long_while_nobody_waits() -> None:
    batches, sizes = logs([(i, "put", 1, 1) for i in IDS]), list[int]()
    for answering in (True, False):
        one, applied = follower(), dict[int, int]()
        one._pace._record_s = 0.004
        task = asyncio.create_task(one.follow(batches, wiring(), applied, lambda a=answering: a))
        await asyncio.sleep(0)
        sizes.append(len(one.catalog))
        await task
        assert len(one.catalog) == len(IDS)
    assert sizes == [1, len(IDS)]


def test_an_item_is_found_as_soon_as_its_slice_is_applied() -> None:
    one = follower()
    one.apply_all(logs([("i1", "put", 3, 1), ("i2", "gone", 0, 1), ("i3", "put", 0, 1)]), T0)
    assert one._hot is not None
    for item_id in ("i1", "i3"):
        vector = one.catalog.vector(hash64(item_id))
        assert vector is not None
        assert one._hot.search(vector, 1)[0].tolist() == [hash64(item_id)]
        assert hash64(item_id) in one.catalog.newest.newest(T0, 5)


def test_of_two_ids_with_one_key_in_two_partitions_one_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(catalog_module, "hash_many", lambda texts: np.minimum(hash_many(texts), 1))
    one = follower()
    first, second = (
        next(i for i in IDS if partition_of(i.encode(), PARTITIONS) == partition) for partition in (0, 1)
    )
    steps = [(first, "put", 0, 1), (second, "put", 0, 1), (second, "gone", 0, 1), (first, "bad", 0, 1)]
    one.apply_all(logs(steps), T0)
    assert one.catalog.id_of(1) == first
    assert [r.action for r in caplog.records] == ["id_collision"] * 2  # type: ignore[attr-defined]
    one.apply_all(logs([(first, "gone", 0, 9), (second, "put", 1, 9)]), T0)
    assert one.catalog.id_of(1) == second
