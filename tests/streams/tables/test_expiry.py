"""Rows idle for too long are deleted, piece by piece; one wrong date or a wrong clock deletes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from state_rows import ROW, keys, put

from headrace.streams.tables.expiry import LAP_S, Expiry
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import RowTable

DAY = 86_400_000
NOW = 20_000 * DAY
TTL = 90 * DAY
YEAR_2096 = 46_000 * DAY


class Shop:
    """A partition with 300 rows, a third idle for 100 days, a third for a day; half of them are evicted."""

    def __init__(self) -> None:
        self.part = StatePartition(0, RowTable(ROW))
        rows = self.part.rows.take(np.arange(1, 301, dtype=np.uint64))
        idle = (np.arange(300) % 3).tolist()
        self.part.rows.data["updated"][rows] = [NOW - (0, 1, 100)[n] * DAY for n in idle]
        self.idle_keys = {key for key, n in zip(range(1, 301), idle, strict=True) if n == 2}
        self.part.evict(max_rows=150)
        self.expiry = Expiry(TTL, 0.0)
        self.time = 0.0

    def lap(self, now_ms: int, step_s: float = 3.0) -> set[int]:
        """Look at all rows, at some time of day; return the keys deleted."""
        gone: set[int] = set()
        end = self.time + LAP_S
        while self.time < end:
            self.time += step_s
            gone.update(self.expiry.look(self.part, now_ms, self.time).tolist())
        return gone


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_idle_rows_are_deleted_in_memory_or_not(shop: Shop) -> None:
    assert shop.part.evicted_count > 100
    gone = shop.lap(NOW) | shop.lap(NOW)
    assert gone == shop.idle_keys
    assert set(shop.part.take().deleted.tolist()) == shop.idle_keys
    assert len(shop.part.rows) + shop.part.evicted_count == 200


def test_one_row_of_the_year_2096_deletes_no_others(shop: Shop) -> None:
    put(shop.part, 999, offset=1, count=1, updated=YEAR_2096)
    shop.part.written(shop.part.take())
    assert shop.lap(NOW) | shop.lap(NOW) == shop.idle_keys
    assert 999 in shop.part.rows


@pytest.mark.parametrize("ahead", [-40_000 * DAY, -400 * DAY, 0, 365 * DAY, 10_000 * DAY])
def test_a_wrong_clock_deletes_nothing(shop: Shop, ahead: int) -> None:
    gone = shop.lap(NOW + ahead) | shop.lap(NOW + ahead)
    assert gone == (shop.idle_keys if ahead >= 0 else set())
    assert shop.lap(NOW) | gone == shop.idle_keys, "it goes on when the clock is right again"


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_moved_by_hours_beside_a_row_of_2096(shop: Shop, hours: int) -> None:
    put(shop.part, 999, offset=1, count=1, updated=YEAR_2096)
    edge = [(1001, -TTL - 6 * 3_600_000), (1002, -TTL + 6 * 3_600_000)]
    for key, ms in edge:
        put(shop.part, key, offset=1, count=1, updated=NOW + ms)
    shop.part.written(shop.part.take())
    moved = NOW + hours * 3_600_000
    assert shop.lap(moved) | shop.lap(moved) == shop.idle_keys | {1001}


def test_any_time_is_possible(shop: Shop) -> None:
    put(shop.part, 998, offset=1, count=1, updated=-(2**63))
    put(shop.part, 999, offset=1, count=1, updated=2**63 - 1)
    shop.part.written(shop.part.take())
    assert shop.lap(0) == {998}
    assert shop.lap(-(2**62)) == set()
    assert shop.lap(NOW) | shop.lap(NOW) == shop.idle_keys


def test_the_cost_of_a_look_is_a_piece_of_the_rows(shop: Shop) -> None:
    assert not len(shop.expiry.look(shop.part, NOW, 0.5)), "too soon"
    seen = [shop.expiry.look(shop.part, NOW, 10.0 * n).tolist() for n in range(1, 32)]
    assert max(map(len, seen)) <= 2 * len(shop.idle_keys) * 10.0 / LAP_S + 2
    assert {key for some in seen for key in some} <= shop.idle_keys


def test_rows_that_are_not_in_the_changelog_stay(shop: Shop) -> None:
    put(shop.part, 500, offset=1, count=1, updated=0)
    assert shop.lap(NOW) | shop.lap(NOW) == shop.idle_keys
    shop.part.written(shop.part.take())
    assert shop.lap(NOW) == {500}
    assert not len(shop.part.rows.find(keys(500))[shop.part.rows.find(keys(500)) >= 0])


def test_an_empty_partition() -> None:
    expiry, part = Expiry(TTL, 0.0), StatePartition(0, RowTable(ROW))
    assert not len(expiry.look(part, NOW, 1000.0))
