"""A catalogue on a snapshot, with changes in memory, is the catalogue with everything in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_catalogs import Record, base_of, begin_swap, opened, write_snapshot
from strategies import T0
from worlds import item

from headrace.serving.catalog import STEP, Catalog
from headrace.serving.catalog_changes import Origin
from headrace.serving.catalog_row import ROW
from headrace.streams.errors import RejectedError
from headrace.streams.messages.countries import country_id
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import DAY_MS, HOUR_MS

IDS = [f"i{n}" for n in range(12)]
COUNTRIES = ("BR", "US", "")


@st.composite
def items(draw: st.DrawFn) -> Item:
    return item(
        draw(st.integers(0, len(IDS) - 1)),
        published_ts=T0 - draw(st.integers(-3, 40)) * 12 * HOUR_MS,
        title=draw(st.sampled_from(["", "Ein Titel", "Überschrift zwei"])),
        category=draw(st.sampled_from(["", "news", "sport"])),
        creator_id=draw(st.sampled_from(["", "c1", "c2"])),
        language=draw(st.sampled_from(["", "de"])),
        countries=draw(st.lists(st.sampled_from(["BR", "US"]), max_size=2)),
        blocked_countries=draw(st.lists(st.sampled_from(["BR"]), max_size=1)),
        flags=draw(st.lists(st.sampled_from(["nsfw", "x"]), max_size=2)),
        min_age=draw(st.sampled_from([0, 18])),
        boost=draw(st.sampled_from([1.0, 2.5])),
    )


RECORDS = st.lists(st.one_of(items(), st.sampled_from(IDS)), max_size=40)
#: When a snapshot is written and used, as shares of the records, and how many steps of dropping follow.
SNAPSHOTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 5)), max_size=4)


def partition_of(name: str) -> int:
    return hash64(name) % 2


def apply(catalog: Catalog, record: Record, offset: int, partition: int) -> None:
    origin = Origin(partition, np.array([offset]), T0)
    if isinstance(record, str):
        catalog.drop_many([record], origin)
    else:
        catalog.put_many([record], origin)


def same(mapped: Catalog, plain: Catalog) -> None:
    keys = hash_many(IDS)
    assert len(mapped) == len(plain)
    rows, expected = mapped.find(keys), plain.find(keys)
    np.testing.assert_array_equal(rows >= 0, expected >= 0)
    rows, expected = rows[rows >= 0], expected[expected >= 0]
    for name in ROW.names or ():
        got = mapped.column(name, rows)
        assert got.dtype == ROW[name].base
        compare: Any = np.testing.assert_allclose if name == "vector" else np.testing.assert_array_equal
        compare(got, plain.column(name, expected), **({"atol": 2e-5} if name == "vector" else {}))
    there = keys[plain.find(keys) >= 0]
    assert mapped.ids_of(there) == [plain.id_of(key) for key in there.tolist()]
    if len(there) < len(keys):
        with pytest.raises(KeyError):
            mapped.ids_of(keys)
    for country in map(country_id, COUNTRIES):
        allowed = mapped.all_allowed_in(there, mapped.find(there), country).tolist()
        assert allowed == [plain.allowed_in(key, country) for key in there.tolist()]
    for got, wanted in zip(mapped.attributes(keys), plain.attributes(keys), strict=True):
        np.testing.assert_array_equal(got, wanted)
    for key in keys.tolist():
        assert mapped.title_of(key) == plain.title_of(key)
        assert mapped.title_of(key, "") == plain.title_of(key, "")
        assert (mapped.vector(key) is None) == (plain.vector(key) is None)
        for country in map(country_id, COUNTRIES):
            assert mapped.allowed_in(key, country) == plain.allowed_in(key, country)
        if plain.find(np.array([key], np.uint64))[0] >= 0:
            assert mapped.id_of(key) == plain.id_of(key)
        else:
            with pytest.raises(KeyError):
                mapped.id_of(key)
    for name in ("news", "sport", "c1", "c2"):
        assert mapped.name_of(hash64(name)) in (plain.name_of(hash64(name)), name)
    same_newest(mapped, plain)


def same_newest(mapped: Catalog, plain: Catalog) -> None:
    groups = list(map(hash64, ("news", "sport", "c1", "c2", "nobody")))
    for now in (T0 - 20 * DAY_MS, T0 - DAY_MS, T0, T0 + 2 * DAY_MS):
        for k in (1, 3, 50):
            assert mapped.newest.newest(now, k).tolist() == plain.newest.newest(now, k).tolist()
            got, wanted = (c.newest.of_creators(groups, now, k).tolist() for c in (mapped, plain))
            assert got == wanted
            for group in groups:
                for of in ("by_category", "by_creator"):
                    got, wanted = (getattr(c.newest, of)(group, now, k).tolist() for c in (mapped, plain))
                    assert got == wanted


@settings(deadline=None, max_examples=60)
@given(RECORDS, SNAPSHOTS)
def test_any_changes_and_snapshots(records: list[Record], snapshots: list[tuple[float, float, int]]) -> None:
    mapped, plain = Catalog(("nsfw",)), Catalog(("nsfw",))
    n = len(records)
    # A snapshot has a prefix of the records; it is used at that point or later.
    planned = sorted((int(w * n), int(w * n) + int(u * (n - int(w * n))), k) for w, u, k in snapshots)
    at_use: dict[int, list[tuple[int, int]]] = {}
    for written, used, steps in planned:
        at_use.setdefault(used, []).append((written, steps))
    with tempfile.TemporaryDirectory() as folder:
        path, newest = Path(folder), 0
        for offset in range(n + 1):
            for written, steps in at_use.get(offset, []):
                if written < newest:
                    continue  # an older one never takes the place of a newer one
                old = opened(path) if newest else None
                write_snapshot(path, records[newest:written], {0: written, 1: written}, old=old)
                newest = written
                base = base_of(path, "nsfw")
                begin_swap(mapped, base)
                mapped.swap(base)
                same(mapped, plain)
                while steps and mapped.trim():
                    steps -= 1
                same(mapped, plain)
            if offset < n:
                record = records[offset]
                part = partition_of(record if isinstance(record, str) else record.item_id)
                for catalog in (mapped, plain):
                    apply(catalog, record, offset, part)
        same(mapped, plain)
        if mapped.base is not None:
            mapped.base.snapshot.close()


def on_snapshot(path: Path, *records: Record, end: int = 10) -> Catalog:
    write_snapshot(path, records, {0: end})
    catalog = Catalog()
    base = base_of(path)
    begin_swap(catalog, base)
    catalog.swap(base)
    return catalog


def test_what_changes_while_a_snapshot_is_opened_stays_hidden_in_it(tmp_path: Path) -> None:
    catalog = Catalog()
    write_snapshot(tmp_path, [item(1), item(2, title="old"), item(3)], {0: 3})
    base = base_of(tmp_path)
    begin_swap(catalog, base)
    apply(catalog, item(2, title="new"), 3, 0)
    apply(catalog, "i3", 4, 0)
    catalog.swap(base)
    while catalog.trim():
        pass
    assert [catalog.title_of(hash64(i)) for i in ("i1", "i2")] == ["Title number 1", "new"]
    assert len(catalog) == 2
    assert len(catalog.table) == 1


def test_what_the_snapshot_has_leaves_memory(tmp_path: Path) -> None:
    catalog = Catalog()
    for n in range(600):
        apply(catalog, item(n), n, 0)
    write_snapshot(tmp_path, [item(n) for n in range(590)], {0: 590})
    base = base_of(tmp_path)
    begin_swap(catalog, base)
    catalog.swap(base)
    assert base.hidden == 590
    steps = 1
    while catalog.trim():
        steps += 1
    assert steps == 600 // STEP, "a little at a time"
    assert (len(catalog), len(catalog.table), base.hidden) == (600, 10, 0)
    assert len(catalog.newest.newest(T0, 1000)) == 600


def test_a_snapshot_of_other_vectors_has_none(tmp_path: Path) -> None:
    class Other:
        version = content = "other"

        def item_vectors(self, keys: Any, content: Any) -> Any:
            return np.ones((len(keys), 64), np.float32) / 8

    write_snapshot(tmp_path, [item(1)], {0: 1}, vectors=Other())
    catalog = Catalog()
    catalog.swap(base_of(tmp_path))
    assert not catalog.searchable
    assert catalog.vector(hash64("i1")) is None
    catalog.put(item(1))
    assert catalog.vector(hash64("i1")) is not None


def test_another_item_with_the_hash_of_one_in_the_snapshot_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = on_snapshot(tmp_path, item(1))
    monkeypatch.setattr(
        "headrace.serving.catalog.hash_many",
        lambda texts: hash_many(["i1" if t == "i9" else t for t in texts]),
    )
    with pytest.raises(RejectedError, match=r"the 64-bit hash of 'i9' is that of 'i1'"):
        catalog.put(item(9))
    with pytest.raises(RejectedError, match=r"the 64-bit hash of 'i9' is that of 'i1'"):
        catalog.drop("i9")
    assert catalog.title_of(hash64("i1")) == "Title number 1"


def test_after_a_topic_was_made_again_the_next_snapshot_has_what_is_here(tmp_path: Path) -> None:
    catalog = Catalog()
    for n in range(5):
        apply(catalog, item(n), 100 + n, 0)
    catalog.turned(0)
    apply(catalog, item(7), 3, 0)
    write_snapshot(tmp_path, [item(1)], {0: 3})
    base = base_of(tmp_path)
    begin_swap(catalog, base)
    catalog.swap(base)
    while catalog.trim():
        pass
    keys = hash_many([f"i{n}" for n in range(8)])
    assert np.flatnonzero(catalog.find(keys) >= 0).tolist() == [1, 7]


def test_withdrawn_items_are_remembered_for_a_day() -> None:
    catalog = Catalog()
    catalog.drop_many(["i1"], Origin(0, np.array([1]), T0))
    catalog.forget_old(T0 + DAY_MS)
    assert np.concatenate([*catalog.begin_swap()]).tolist() == [hash64("i1")]
    catalog.cancel_swap()
    catalog.forget_old(T0 + DAY_MS + 1)
    assert np.concatenate([*catalog.begin_swap()]).tolist() == []
