from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0

from headrace.serving.index import newest_rows
from headrace.serving.index.newest import Newest
from headrace.streams.settings import DAY_MS, HOUR_MS

AGE = 2 * DAY_MS


class Plain:
    """The same lists by sorting all items."""

    def __init__(self, of_creator: int = 50) -> None:
        self.items: dict[int, tuple[int, int, int]] = {}
        self.of_creator = of_creator

    def newest(self, now: int, k: int) -> list[int]:
        return self._first(self.items, now, k)

    def _first(self, keys: object, now: int, k: int) -> list[int]:
        found = [key for key in keys if self.items[key][0] <= now]  # type: ignore[attr-defined]
        return sorted(found, key=lambda key: (-self.items[key][0], key))[:k]

    def by_category(self, category: int, now: int, k: int) -> list[int]:
        return self._first([key for key, i in self.items.items() if i[1] == category], now, k)

    def by_creator(self, creator: int, now: int, k: int) -> list[int]:
        young = [key for key, i in self.items.items() if i[2] == creator and i[0] > now - AGE]
        return self._first(young, now, k)

    def of_creators(self, creators: list[int], now: int, k: int) -> list[int]:
        found = [key for c in set(creators) for key in self.by_creator(c, now, self.of_creator)]
        return self._first(found, now, k)


def same(lists: Newest, plain: Plain, now: int, k: int) -> None:
    assert len(lists) == len(plain.items)
    assert lists.newest(now, k).tolist() == plain.newest(now, k)
    for group in range(1, 5):
        assert lists.by_category(group, now, k).tolist() == plain.by_category(group, now, k)
        assert lists.by_creator(group, now, k).tolist() == plain.by_creator(group, now, k)
    assert lists.of_creators([3, 1, 3, 9], now, k).tolist() == plain.of_creators([3, 1, 3, 9], now, k)


@given(st.integers(0, 2**32), st.booleans(), st.sampled_from([4, 512]))
def test_against_sorting(seed: int, loaded: bool, largest: int) -> None:
    rng = np.random.default_rng(seed)
    lists, plain = Newest(AGE, of_creator=3), Plain(of_creator=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newest_rows, "_LARGEST", largest)
        if loaded:
            n = int(rng.integers(0, 80))
            keys, groups = rng.integers(1, 60, n, np.uint64), rng.integers(0, 5, (2, n), np.uint64)
            times = T0 + rng.integers(-3, 3, n) * HOUR_MS * 12
            lists.load(keys, times, groups[0], groups[1])
            plain.items = dict(
                zip(keys.tolist(), zip(times.tolist(), *groups.tolist(), strict=True), strict=True)
            )
        for _ in range(80):
            key = int(rng.integers(1, 60))
            if rng.random() < 0.35:
                lists.drop(key)
                plain.items.pop(key, None)
            else:
                time = T0 + int(rng.integers(-60, 6)) * HOUR_MS
                item = (time, int(rng.integers(0, 5)), int(rng.integers(0, 5)))
                lists.put(key, *item)
                plain.items[key] = item
            if rng.random() < 0.2:
                now = T0 + int(rng.integers(-80, 12)) * HOUR_MS
                same(lists, plain, now, int(rng.integers(0, 30)))
        same(lists, plain, T0, 100)


@given(st.integers(0, 2**32), st.sampled_from([2, 4, 7, 512]))
def test_many_items_at_once_are_as_one_after_the_other(seed: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    lists, plain = Newest(AGE, of_creator=3), Plain(of_creator=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newest_rows, "_LARGEST", largest)
        for _ in range(int(rng.integers(1, 8))):
            keys = rng.permutation(np.arange(1, 200, dtype=np.uint64))[: rng.integers(0, 100)]
            times = T0 + rng.integers(-30, 6, len(keys)) * HOUR_MS * int(rng.integers(1, 3))
            groups = rng.integers(0, 5, (2, len(keys)), np.uint64)
            lists.put_many(keys, times, groups[0], groups[1])
            plain.items |= zip(keys.tolist(), zip(times.tolist(), *groups.tolist(), strict=True), strict=True)
            gone = rng.integers(1, 200, rng.integers(0, 60), np.uint64)
            lists.drop_many(np.unique(gone))
            for key in gone.tolist():
                plain.items.pop(key, None)
            same(lists, plain, T0 + int(rng.integers(-30, 6)) * HOUR_MS, 100)
            for blocks in (lists._all, *lists._categories.values(), *lists._creators.values()):
                assert all(0 < len(block) <= largest for block in blocks)


def test_no_items_at_once_put_nothing_on_a_list() -> None:
    lists, none = Newest(), np.zeros(0, np.uint64)
    lists.put_many(none, none.astype(np.int64), none, none)
    assert (lists._all, lists._categories, lists._creators) == ([], {}, {})
    assert lists.newest(T0, 5).tolist() == []
    lists.put_many(
        np.array([3], np.uint64), np.array([T0]), np.array([7], np.uint64), np.array([8], np.uint64)
    )
    lists.put_many(none, none.astype(np.int64), none, none)
    assert lists.newest(T0, 5).tolist() == [3]


def test_an_item_of_the_future_waits_for_its_time() -> None:
    lists = Newest()
    lists.put(1, T0, 7, 8)
    lists.put(2, T0 + 1000, 7, 8)
    assert lists.newest(T0 + 999, 5).tolist() == lists.by_creator(8, T0 + 999, 5).tolist() == [1]
    assert lists.newest(T0 + 1000, 5).tolist() == lists.by_category(7, T0 + 1000, 5).tolist() == [2, 1]
    assert lists.newest(T0 - 1, 5).dtype == np.uint64
    assert len(lists.newest(T0 - 1, 5)) == len(lists.by_creator(99, T0, 5)) == 0


def test_many_items_without_a_date() -> None:
    lists = Newest()
    for key in range(1, 3001):
        lists.put(key * 7919 % 3001, 0, 1, 0)
    assert lists.newest(T0, 3).tolist() == [1, 2, 3]
    for key in range(1, 2501):
        lists.drop(key)
    assert lists.by_category(1, T0, 2000).tolist() == list(range(2501, 3001))
    assert len(lists._all) <= 12


def test_lists_never_run_low_when_the_newest_are_withdrawn() -> None:
    lists, n = Newest(), 20_000
    keys = np.arange(1, n + 1, dtype=np.uint64)
    ones = np.ones(n, np.uint64)
    lists.load(keys, T0 - keys.astype(np.int64), ones, ones)
    for key in range(1, 9001):
        lists.drop(key)
    assert lists.newest(T0, 200).tolist() == lists.by_creator(1, T0, 200).tolist() == list(range(9001, 9201))


def test_memory_of_an_item() -> None:
    lists, n = Newest(), 100_000
    rng = np.random.default_rng(0)
    creators = rng.integers(1, n // 20, n, np.uint64)
    lists.load(
        np.arange(1, n + 1, dtype=np.uint64),
        T0 - rng.integers(0, DAY_MS, n),
        creators % np.uint64(50),
        creators,
    )
    assert lists.nbytes < 85 * n
