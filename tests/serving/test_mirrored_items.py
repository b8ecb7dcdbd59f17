"""Item rows in a serving worker: idle items have no whole row, and nothing that is read of them changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from feature_inputs import candidates, context
from strategies import T0

from headrace.models.features.assemble import assemble
from headrace.models.features.spec import SPEC
from headrace.models.state.items import COUNTS, ItemState
from headrace.serving.mirrored_items import IDLE_MS
from headrace.serving.mirrors import Mirrors
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.serving.sources.trending import top
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.settings import DAY_MS, HOUR_MS

ITEMS = 3000
#: Features that do not depend on windows.
LASTING = ("item_clicks_total", "item_age_h", "item_idle_min")


class Mirrored:
    """Item rows of an aggregator, and their mirror in a serving worker."""

    def __init__(self, most: int) -> None:
        self.source = ItemState()
        self.recommender = Recommender(Policy(), refresh_ms=0)
        self.mirrors = Mirrors(self.recommender, most_items=most)
        self.offset = 0

    @property
    def stats(self) -> ItemState:
        return self.recommender.stats

    def events(self, rng: np.random.Generator, now: int, n: int, items: int = ITEMS) -> None:
        """Count events of the last hours; the mirror gets the rows at ``now``, some of them twice."""
        out = np.zeros(n, ITEM_EVENT)
        out["item"], out["amount"] = rng.integers(1, items + 1, n), 1
        out["kind"] = rng.choice([KIND[k] for k in ("shown", "click", "skip", "like")], n)
        out["ts"] = now - rng.integers(0, 3 * HOUR_MS, n)
        rows, _ = self.source.apply(out, self.offset + np.arange(n))
        self.offset += n
        packed = list(
            zip(self.source.table.data["key"][rows].tolist(), self.source.table.pack(rows), strict=True)
        )
        again = [packed[i] for i in rng.integers(0, len(packed), 5)]
        self.deliver([*packed, *again], now)

    def deliver(self, rows: list[tuple[int, bytes | None]], now: int) -> int:
        records: list[Any] = [SimpleNamespace(key=k.to_bytes(8, "little"), value=v) for k, v in rows]
        return self.mirrors.item_features(records, now)

    def features(self, stats: ItemState, now: int) -> Any:
        return assemble(None, candidates(ITEMS, stats, published=np.zeros(ITEMS, np.int64)), context(now=now))

    def catch_up(self, now: int) -> None:
        while self.recommender.trending.behind:
            self.recommender.trending.refresh(now)

    def ever(self) -> Any:
        table = self.source.table
        return top(table.keys(), COUNTS.totals(table.data[table.rows()], "click").astype(np.float32), 300)


def test_features_of_idle_items_are_those_of_whole_rows() -> None:
    world, rng = Mirrored(most=100_000), np.random.default_rng(1)
    now = T0
    for step in range(30):
        now += int(rng.choice([HOUR_MS, 12 * HOUR_MS, 2 * DAY_MS]))
        world.events(rng, now, 1200, items=ITEMS - 90 * step)  # fewer and fewer items stay active
        for asked in (now, now - DAY_MS, now + DAY_MS):
            np.testing.assert_array_equal(
                world.features(world.source, asked), world.features(world.stats, asked)
            )
    assert len(world.stats.idle) > 500
    assert len(world.stats.table) + len(world.stats.idle) == len(world.source.table)
    world.catch_up(now)
    for got, expected in zip(world.recommender.trending.ever, world.ever(), strict=True):
        assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("most", [50, 700])
def test_there_are_never_more_whole_rows_than_allowed(most: int) -> None:
    world, rng = Mirrored(most), np.random.default_rng(2)
    lasting = [SPEC.index(name) for name in LASTING]
    for step in range(10):
        now = T0 + step * HOUR_MS
        world.events(rng, now, 1500)
        assert len(world.stats.table) <= most
        expected, got = world.features(world.source, now), world.features(world.stats, now)
        np.testing.assert_array_equal(expected[:, lasting], got[:, lasting])
        world.catch_up(now)
        for list_, wanted in zip(world.recommender.trending.ever, world.ever(), strict=True):
            assert list_.tolist() == wanted.tolist()
    assert len(world.stats.table) + len(world.stats.idle) == len(world.source.table)


def test_rows_that_are_idle_when_they_are_read_never_take_their_space() -> None:
    world, rng = Mirrored(most=100_000), np.random.default_rng(3)
    world.events(rng, T0, 2000)
    later = Recommender(Policy())
    table = world.source.table
    rows = zip(table.keys().tolist(), table.pack(table.rows()), strict=True)
    records: list[Any] = [SimpleNamespace(key=k.to_bytes(8, "little"), value=v) for k, v in rows]
    assert Mirrors(later).item_features(records, T0 + IDLE_MS + HOUR_MS) == len(table)
    assert len(later.stats.table) == 0
    assert len(later.stats.idle) == len(table)
    assert later.stats.idle.table.nbytes < 160 * len(table)
    assert later.trending.ever[0].tolist() == world.ever()[0].tolist()


def test_an_idle_item_is_deleted_comes_back_and_never_becomes_older() -> None:
    world = Mirrored(most=100_000)
    click = np.zeros(1, ITEM_EVENT)
    click["item"], click["amount"], click["kind"] = 7, 1, KIND["click"]
    packed = []
    for n, ts in enumerate((T0, T0 + 1, T0 + 4 * DAY_MS)):
        click["ts"] = ts
        world.source.apply(click, np.array([n]))
        packed.append(world.source.table.pack(np.array([0]))[0])
    old = T0 + 3 * DAY_MS
    assert world.deliver([(7, packed[1])], old) == 1
    assert world.stats.idle.table.data["clicks"][0] == 2
    assert world.deliver([(7, packed[0])], old) == 0, "a zombie writes"
    assert world.stats.idle.table.data["clicks"][0] == 2
    assert world.deliver([(7, packed[2])], T0 + 4 * DAY_MS) == 1
    assert (len(world.stats.idle), len(world.stats.table)) == (0, 1)
    assert world.deliver([(7, packed[1])], T0 + 4 * DAY_MS) == 0, "also when it looks idle"
    assert (len(world.stats.idle), len(world.stats.table)) == (0, 1)
    world.deliver([(7, None), (7, packed[0])], T0 + 4 * DAY_MS)
    assert (len(world.stats.idle), len(world.stats.table)) == (1, 0)
    world.deliver([(7, None)], T0 + 4 * DAY_MS)
    assert (len(world.stats.idle), len(world.stats.table)) == (0, 0)
    assert world.recommender.trending.ever[0].tolist() == []


def test_too_many_idle_items_are_forgotten() -> None:
    world, rng = Mirrored(most=100_000), np.random.default_rng(4)
    world.events(rng, T0, 4000)
    mirrors = Mirrors(world.recommender, most_items=10, most_idle=1200)
    world.mirrors = mirrors
    world.events(rng, T0 + HOUR_MS, 100)
    assert len(world.stats.table) == 10
    assert len(world.stats.idle) <= 1200


def test_rows_of_another_version_are_counted() -> None:
    world = Mirrored(most=10)
    assert world.deliver([(7, b"short")], T0) == 0
    assert world.stats.table.refused == 1
