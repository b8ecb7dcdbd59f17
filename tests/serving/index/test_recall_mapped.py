"""The recall of the search in a snapshot is measured against all its items that count, by two ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mapped_catalogs import base_of, begin_swap, write_snapshot
from prometheus_client import generate_latest
from scraped import Scraped
from strategies import T0, unit_vectors
from worlds import World, item, request

from headrace.serving.index import lists
from headrace.serving.index.recall import K, RecallProbe
from headrace.serving.measured import Measured
from headrace.serving.snapshot.base import Base
from headrace.serving.store.freshness import Freshness
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import RecReply
from headrace.streams.metrics import Metrics
from headrace.streams.settings import DAY_MS, Settings

N = 1500
SEARCHES = unit_vectors(6, 4)


def base_with(path: Path) -> Base:
    """Return a snapshot of items, some of which were withdrawn since."""
    every = unit_vectors(N, 9)
    made = [
        item(n, title="", category="", creator_id="", tags=[], vector=[float(x) for x in every[n]])
        for n in range(N)
    ]
    write_snapshot(path, made, {0: 1})
    base = base_of(path)
    base.hide(hash_many([f"i{n}" for n in range(0, N, 5)]))
    return base


def measured(base: Base) -> float:
    now = [0.0]
    probe = RecallProbe(every=1, clock=lambda: now[0])
    for vector in SEARCHES:
        base.search(vector, 10)
        now[0] += 1000
        probe.replied(base)
        probe.settle()
    probe.close()
    assert probe.samples == len(SEARCHES)
    assert probe.recall is not None
    return probe.recall


def plain(base: Base) -> float:
    keys = base.snapshot.column["key"]
    rows = np.flatnonzero(base.find(keys) >= 0)
    vectors = base.snapshot.vectors.vectors(rows)
    found = []
    for vector in SEARCHES:
        best = keys[rows[np.argsort(-(vectors @ vector))[:K]]]
        found.append(np.isin(best, base.search(vector, K)[0]).mean())
    return float(np.mean(found))


def test_a_search_of_all_rows_has_recall_1(tmp_path: Path) -> None:
    assert measured(base_with(tmp_path)) == 1


def test_a_search_of_few_rows_has_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "FEW", 500)
    monkeypatch.setattr(lists, "most_rows", lambda n: n // 10)
    base = base_with(tmp_path)
    assert measured(base) == pytest.approx(plain(base), abs=1e-6)
    assert 0.1 < plain(base) < 0.9


def test_the_metrics_say_how_large_old_and_exact_it_is(tmp_path: Path) -> None:
    world, metrics, clock = World(), Metrics(), ManualClock(T0 + DAY_MS)
    freshness = Freshness(MemoryStore(), {}, clock)
    taken = Measured(metrics, world.recommender, freshness, Settings(metrics_port=1), clock)

    def read() -> Scraped:
        return Scraped(generate_latest(metrics.registry).decode())

    assert read().one("headrace_catalogue_items") is None
    base = base_with(tmp_path)
    begin_swap(world.recommender.catalog, base)
    world.recommender.catalog.swap(base)
    assert read().one("headrace_catalogue_recall_ratio") is None
    taken.replied([(request(), RecReply("r"))])  # nothing was searched yet
    world.click("u", "i1")
    world.answer(request("u"))
    for _ in range(500):
        taken.replied([(request(), RecReply("r"))])
    assert taken.catalogue_recall is not None
    taken.catalogue_recall.settle()
    seen = read()
    assert seen.one("headrace_catalogue_items") == N - N // 5
    age_s = clock.now_ms() / 1000 - base.snapshot.written_ms / 1000
    assert seen.one("headrace_catalogue_age_seconds") == pytest.approx(age_s)
    assert seen.one("headrace_catalogue_recall_ratio") == 1
    assert seen.one("headrace_catalogue_recall_samples_total") == 1
    taken.close()
