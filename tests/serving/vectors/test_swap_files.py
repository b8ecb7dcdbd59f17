"""A snapshot and the towers that made it come into use together: a request reads one version only."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from learnt_towers import learnt_body
from mapped_catalogs import Record, base_of, begin_swap, opened, write_snapshot
from strategies import T0
from worlds import World, by_mmr, item, request

from headrace.models.embeddings.artefact import towers_of, version_of
from headrace.models.embeddings.directions import F32, U64
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.one_user import OneUser, vectors_of
from headrace.models.embeddings.pieces import cut
from headrace.models.embeddings.towers import Towers
from headrace.models.state import users as user_state
from headrace.serving.catalog_changes import Origin
from headrace.serving.mirrors import Mirrors
from headrace.serving.policy import Policy
from headrace.serving.snapshot.base import Base
from headrace.serving.snapshot.files import SnapshotError
from headrace.serving.snapshot.folder import SnapshotFolder
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.serving.vectors.swap import Swap
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item, ModelInfo
from headrace.streams.settings import HOUR_MS

N = 300
IDS = [f"i{n}" for n in range(N)]


def told(n: int | str, **changes: object) -> Item:
    own = [1.0, 2.0, float(hash64(str(n)) % 9)] if hash64(str(n)) % 3 == 0 else []
    return item(n, duration_ms=1000 * (hash64(str(n)) % 500 + 1), vector=own, **changes)


class Everything:
    """A world with all its items, and what the towers read of them, whatever the catalogue has in memory."""

    def __init__(self) -> None:
        self.world, self.content = World(0, Policy(rules=by_mmr(0, 1))), ItemContent()
        self.items: dict[str, Item] = {}
        self.offset = 0
        self.records: list[Record] = []  # since the last snapshot
        self.publish(*(told(n) for n in range(N)))
        self.world.session("me", [1, 2, 3])

    def publish(self, *items: Item) -> None:
        catalog, hot = self.world.recommender.catalog, self.world.recommender.hot
        for one in items:
            (key,) = catalog.put_many([one], Origin(0, np.array([self.offset]), T0)).tolist()
            hot.put(key, catalog.vectors.of(np.array([key], np.uint64))[0], one.published_ts, T0)
            self.content.put(one)
            self.items[one.item_id] = one
            self.records.append(one)
            self.offset += 1

    def withdraw(self, item_id: str) -> None:
        self.world.recommender.catalog.drop_many([item_id], Origin(0, np.array([self.offset]), T0))
        self.world.recommender.hot.drop(hash64(item_id))
        del self.items[item_id]
        self.records.append(item_id)
        self.offset += 1

    def body(self, seed: int) -> bytes:
        return learnt_body(self.content, IDS, seed)

    def keys(self) -> U64:
        return hash_many(list(self.items))

    def write(self, path: Path, towers: bytes = b"") -> None:
        """Write a snapshot from the last one and the records since."""
        old = opened(path) if SnapshotFolder(path).current() else None
        write_snapshot(path, self.records, {0: self.offset}, towers=towers, old=old)
        self.records = []
        if old is not None:
            old.close()

    def begin(self, path: Path) -> Base:
        catalog = self.world.recommender.catalog
        base = base_of(path)
        begin_swap(catalog, base)
        catalog.hide_changed(base)
        self.swap.begin_with(base, T0)
        return base

    def take(self, base: Base) -> int:
        """Take what was begun; return how often it was tried."""
        for tries in range(1, 20):
            assert self.swap.making is not None
            wait([self.swap.making], 30)
            if self.swap.take_with(T0, lambda: self.world.recommender.catalog.swap(base)):
                return tries
        raise AssertionError

    def use(self, path: Path) -> None:
        self.take(self.begin(path))

    @property
    def swap(self) -> Swap:
        return self.world.recommender.swap

    def trim(self) -> None:
        """Leave to the files what they have, as ``MappedCatalog`` does."""
        hot = self.world.recommender.hot
        while self.world.recommender.catalog.trim(hot.drop_many):
            pass

    def expected(self, towers: Towers, keys: U64) -> F32:
        return towers.item_vectors(keys, self.content)

    def check(self, towers: Towers) -> None:
        """Check that user, candidates, catalogue and both indexes are by these towers."""
        ranked = self.world.rank(request("me"))
        recommender, around = self.world.recommender, ranked.query.interests[0]
        assert recommender.catalog.vectors.version == towers.version
        every = self.keys()
        np.testing.assert_allclose(
            recommender.catalog.vectors_of(every), self.expected(towers, every), atol=2e-3
        )
        pool = ranked.pool.candidates
        assert len(pool) > 20
        np.testing.assert_allclose(pool.vectors, self.expected(towers, pool.items), atol=2e-3)
        found, products = recommender.hot.search(around, 2 * N)
        assert sorted(found.tolist()) == sorted(every.tolist())
        np.testing.assert_allclose(products, self.expected(towers, found) @ around, atol=0.01)
        if recommender.catalog.base is not None:
            assert recommender.catalog.searchable
            assert "source:ann" not in ranked.query.left_out
            in_files = every[recommender.catalog.base.find(every) >= 0]
            near = self.expected(towers, recommender.catalog.nearest(around, 10)) @ around
            best = np.sort(self.expected(towers, in_files) @ around)[::-1][:10]
            np.testing.assert_allclose(near, best, atol=0.01)
        if towers.version:
            row = self.world.row("me")
            recent = np.array(user_state.recent_items(row[0])[0], np.uint64)
            user = OneUser(
                self.expected(towers, recent), row["preferred"][0], row["followed"][0], 0, hash64("")
            )
            whole, interests = vectors_of(towers, user, self.content)
            np.testing.assert_allclose(ranked.query.context.user_vector, whole, atol=2e-3)
            np.testing.assert_allclose(ranked.query.interests, interests, atol=2e-3)


@pytest.fixture
def all_() -> Iterator[Everything]:
    out = Everything()
    yield out
    base = out.world.recommender.catalog.base
    if base is not None:
        base.snapshot.close()
    out.world.recommender.close()


def test_base_and_towers_change_in_one_step(all_: Everything, tmp_path: Path) -> None:
    first, second = all_.body(1), all_.body(2)
    all_.check(Towers())
    all_.write(tmp_path)
    all_.use(tmp_path)
    all_.check(Towers())
    all_.trim()
    last = Towers()
    for made in (first, second):
        all_.publish(told(f"new{version_of(made)}", category="sport"))
        all_.write(tmp_path, made)
        base = all_.begin(tmp_path)
        all_.check(last)
        all_.publish(told(f"meanwhile{version_of(made)}", category="news"), told(7, title="all other words"))
        all_.withdraw("i9" if made is first else "i10")
        all_.check(last)
        assert all_.take(base) == 1
        last = towers_of(made)
        all_.check(last)
        all_.trim()
        all_.check(last)
        all_.publish(told(f"after{version_of(made)}", category="film"))
        all_.check(last)
    assert len(all_.world.recommender.catalog.table) < 8, "the others are in files"


def test_items_in_memory_have_the_vectors_that_are_computed_directly(
    all_: Everything, tmp_path: Path
) -> None:
    made = all_.body(1)
    all_.write(tmp_path, made)
    before = told("before")
    all_.publish(before)
    all_.use(tmp_path)
    after = told("after")
    all_.publish(after)
    keys = hash_many([before.item_id, after.item_id])
    towers = towers_of(made)
    got = all_.world.recommender.catalog.vectors_of(keys)
    np.testing.assert_allclose(got, all_.expected(towers, keys), atol=1e-6)
    for key, vector in zip(keys.tolist(), got, strict=True):
        assert all_.world.recommender.hot.search(vector, 1)[0].tolist() == [key]


def test_much_that_changes_meanwhile_is_made_again_in_the_background(
    all_: Everything, tmp_path: Path
) -> None:
    made = all_.body(1)
    all_.write(tmp_path, made)
    base = all_.begin(tmp_path)
    all_.publish(*(told(f"new{n}") for n in range(90)))
    all_.withdraw("i5")
    assert all_.take(base) == 2
    all_.check(towers_of(made))


def test_old_items_of_the_snapshot_are_not_in_the_hot_index(all_: Everything, tmp_path: Path) -> None:
    made = all_.body(1)
    all_.publish(told("old", published_ts=T0 - 49 * HOUR_MS))
    all_.write(tmp_path, made)
    all_.use(tmp_path)
    all_.trim()
    hot = all_.world.recommender.hot
    assert len(hot.mapped or ()) == len(hot) == N, "they are searched in the files"
    assert hash64("iold") not in hot.search(all_.expected(towers_of(made), all_.keys()[:1])[0], 2 * N)[0]


def test_towers_wait_for_the_files_that_were_made_by_them(all_: Everything, tmp_path: Path) -> None:
    made = all_.body(1)
    all_.write(tmp_path)
    all_.use(tmp_path)
    pieces, head = cut(made, 0, 1, {}, {})
    records = [SimpleNamespace(key=key, value=value, timestamp=T0) for key, value in (*pieces, head)]
    Mirrors(all_.world.recommender).models(records, T0)
    all_.swap.settle(T0)
    assert all_.world.answer(request("me")).reply.model == ModelInfo()
    all_.write(tmp_path, made)
    all_.use(tmp_path)
    assert all_.world.answer(request("me")).reply.model == ModelInfo(embeddings=version_of(made))


def test_files_of_version_0_end_the_use_of_towers(all_: Everything, tmp_path: Path) -> None:
    made = all_.body(1)
    all_.swap.begin(lambda: towers_of(made), T0)
    all_.swap.settle(T0)
    all_.check(towers_of(made))
    all_.write(tmp_path)
    all_.use(tmp_path)
    all_.check(Towers())


def test_towers_that_are_being_made_do_not_come_into_use_over_a_snapshot(
    all_: Everything, tmp_path: Path
) -> None:
    first, second = all_.body(1), all_.body(2)
    all_.write(tmp_path, second)
    all_.swap.begin(lambda: towers_of(first), T0)
    base = all_.begin(tmp_path)
    all_.swap.begin(lambda: towers_of(first), T0)
    assert all_.swap.making is not None
    wait([all_.swap.making])
    assert not all_.swap.advance(T0), "who asked for it takes it"
    all_.take(base)
    all_.swap.settle(T0)
    all_.check(towers_of(second))


def test_without_the_snapshot_the_towers_that_were_asked_for_come_into_use(
    all_: Everything, tmp_path: Path
) -> None:
    first = all_.body(1)
    all_.write(tmp_path, all_.body(2))
    all_.swap.begin(lambda: towers_of(first), T0)
    base = all_.begin(tmp_path)
    all_.swap.cancel_with()
    all_.world.recommender.catalog.cancel_swap()
    base.snapshot.close()
    all_.swap.settle(T0)
    all_.check(towers_of(first))


@pytest.mark.parametrize("harm", ["a flipped bit", "towers of another version"])
def test_damaged_towers_are_refused(all_: Everything, tmp_path: Path, harm: str) -> None:
    first, second = all_.body(1), all_.body(2)
    all_.write(tmp_path, first)
    all_.use(tmp_path)
    all_.trim()
    all_.write(tmp_path, second)
    path = opened(tmp_path).folder / "towers"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw if harm == "a flipped bit" else first.ljust(len(raw), b" ")[: len(raw)])
    catalog, base = all_.world.recommender.catalog, Base(CatalogSnapshot(path.parent))
    begin_swap(catalog, base)
    all_.swap.begin_with(base, T0)
    with pytest.raises(SnapshotError, match=r"towers has version [0-9a-f]{12}; the manifest says"):
        all_.take(base)
    all_.swap.cancel_with()
    catalog.cancel_swap()
    base.snapshot.close()
    all_.check(towers_of(first))


def test_lists_are_kept_diverse_by_content_not_by_what_the_files_were_made_by(
    all_: Everything, tmp_path: Path
) -> None:
    catalog = all_.world.recommender.catalog
    keys = all_.keys()
    before = catalog.content_vectors(catalog.find(keys))
    all_.write(tmp_path, all_.body(1))
    all_.use(tmp_path)
    all_.trim()
    assert len(catalog.table) == 0
    np.testing.assert_allclose(catalog.content_vectors(catalog.find(keys)), before, atol=0.005)


def test_categories_and_creators_of_items_in_files_count(all_: Everything, tmp_path: Path) -> None:
    made = all_.body(1)
    all_.write(tmp_path, made)
    other = World(0, Policy(rules=by_mmr(0, 1)))
    other.profile("fan", preferred_categories=["sport", "nothing"], followed_creators=["c3"])
    base = base_of(tmp_path)
    other.recommender.swap.begin_with(base, T0)
    assert other.recommender.swap.making is not None
    wait([other.recommender.swap.making])
    assert other.recommender.swap.take_with(T0, lambda: other.recommender.catalog.swap(base))
    row = other.row("fan")
    towers = towers_of(made)
    user = OneUser(np.zeros((0, 64), np.float32), row["preferred"][0], row["followed"][0], 0, hash64(""))
    whole, _ = vectors_of(towers, user, all_.content)
    assert whole.any()
    got = other.rank(request("fan")).query.context.user_vector
    np.testing.assert_allclose(got, whole, atol=1e-6)
    base.snapshot.close()
    other.recommender.close()
