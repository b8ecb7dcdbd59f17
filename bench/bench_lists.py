"""Cost of the lists of a serving worker: popular items, newest items, and the item rows they come from.

    python bench/bench_lists.py [--rows N ...] [--refreshes N]      # prints one JSON object

``refresh_ms``: CPU time of a call that refreshes the popular lists, with 50 000 of the items active (fewer,
if there are fewer); ``all_changed_ms``: of the calls that 4000 changed rows of items, and as many of
countries, need together; ``full_pass_ms``: of the same lists from a pass over all rows. ``newest``: of an
item put in, changed and taken out, of a bulk load, of a read. ``mirror``: memory of an active and of an idle
item, and CPU time of an item row that a worker reads from its topic; ``plain_us``: of storing it only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from headrace.models.state.items import COUNTS, WINDOWS, ItemState, new_table
from headrace.serving.index.newest import Newest
from headrace.serving.mirrored_items import IDLE_MS
from headrace.serving.mirrors import Mirrors
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.serving.sources.trending import Trending, top
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.settings import DAY_MS, HOUR_MS
from headrace.streams.tables.row_records import row_records

T0 = 1_700_000_000_000
ACTIVE, CHANGED, COUNTRIES = 50_000, 5_000, 2


def spent(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def spread(seconds: list[float], unit: float = 1e3) -> dict[str, float]:
    return {
        "p50": round(statistics.median(seconds) * unit, 3),
        "max": round(max(seconds) * unit, 3),
    }


def clicks(rng: np.random.Generator, now: int, items: int, n: int) -> np.ndarray[Any, Any]:
    """Return clicks just before ``now``, most of them on few items."""
    out = np.zeros(n, ITEM_EVENT)
    out["item"] = (items * rng.random(n) ** 3).astype(np.uint64) + 1
    out["country"] = rng.integers(1, COUNTRIES + 1, n)
    out["ts"], out["amount"], out["kind"] = now - rng.integers(0, 5000, n), 1, KIND["click"]
    return out


class Rows:
    """Item rows, most of them idle."""

    def __init__(self, count: int) -> None:
        self.stats = ItemState()
        table = self.stats.table
        table.reserve(count)
        for first in range(1, count + 1, 100_000):
            rows = table.take(np.arange(first, min(first + 100_000, count + 1), dtype=np.uint64))
            table.data["last_click"][rows] = table.data["updated"][rows] = T0 - 30 * DAY_MS
            table.data["totals"][rows, 1] = rows % 1000
        self.rng, self.offset, self.now = np.random.default_rng(0), 0, T0
        self.items = min(ACTIVE, count)
        for _ in range(60):  # an hour
            self.click(2 * CHANGED)
            self.now += 60_000

    def click(self, n: int) -> tuple[Any, Any]:
        events = clicks(self.rng, self.now, self.items, n)
        self.offset += n
        return self.stats.apply(events, np.arange(self.offset - n, self.offset))

    def full_pass(self) -> None:
        view, now = self.stats.table.view(), self.now
        rows = np.flatnonzero((view["last_click"] > now - HOUR_MS) & (view["key"] != 0))
        for window in ("1h", "5m"):
            top(view["key"][rows], WINDOWS.read_one(view, now, window, "click", rows=rows), 300)
        live = view["key"] != 0
        top(view["key"][live], COUNTS.totals(view, "click")[live].astype(np.float32), 300)
        there = self.stats.countries.view()
        for country in range(1, COUNTRIES + 1):
            rows = np.flatnonzero(there["country"] == country)
            top(there["item"][rows], WINDOWS.read_one(there, now, "1h", "click", rows=rows), 100)


def popular(count: int, refreshes: int) -> dict[str, Any]:
    rows = Rows(count)
    trending = Trending(rows.stats)
    steps = 0
    while trending.behind:
        trending.refresh(rows.now)
        steps += 1

    def refresh() -> None:
        trending.refresh(rows.now)
        for country in range(1, COUNTRIES + 1):
            trending.country(country)
        assert len(trending.ever[0]) == len(trending.hour[0]) == 300

    seen, second = list[float](), list[float]()
    for _ in range(refreshes):
        rows.now += 5000
        items, countries = rows.click(CHANGED)
        trending.changed(items)
        trending.countries_changed(countries)
        calls = [spent(refresh)]
        while trending.behind:
            rows.now += 1000
            calls.append(spent(refresh))
        seen += calls
        second.append(sum(calls))
    passes = [spent(rows.full_pass) for _ in range(5)]
    return {
        "refresh_ms": spread(seen),
        "all_changed_ms": spread(second),
        "full_pass_ms": spread(passes),
        "calls_from_nothing": steps,
    }


def newest(count: int) -> dict[str, Any]:
    rng, lists, n = np.random.default_rng(1), Newest(), 3000
    keys = rng.permutation(count).astype(np.uint64) + np.uint64(1)
    creator, category = rng.integers(1, count // 10, count, np.uint64), rng.integers(1, 100, count, np.uint64)
    published = T0 - rng.integers(0, 60 * DAY_MS, count)
    load_s = spent(lambda: lists.load(keys, published, category, creator))
    memory = lists.nbytes / count
    columns = keys[:n].tolist(), category[:n].tolist(), creator[:n].tolist()

    def put(first: int, time: int) -> None:
        for key, of, by in zip(*columns, strict=True):
            lists.put(first + key, time, of, by)

    def read() -> None:
        for by in columns[2]:
            lists.by_creator(by, T0, 50)

    return {
        "load_s": round(load_s, 3),
        "bytes": round(memory),
        "put_us": round(spent(lambda: put(count, T0)) / n * 1e6, 1),
        "change_us": round(spent(lambda: put(0, T0 + 1)) / n * 1e6, 1),
        "drop_us": round(spent(lambda: [lists.drop(key) for key in columns[0]]) / n * 1e6, 1),
        "of_creator_us": round(spent(read) / n * 1e6, 1),
        "newest_1000_us": round(spent(lambda: [lists.newest(T0, 1000) for _ in range(200)]) / 200 * 1e6, 1),
    }


def mirror(count: int = 50_000) -> dict[str, Any]:
    rows = Rows(count)
    source = rows.stats.table
    packed = zip(source.keys().tolist(), source.pack(source.rows()), strict=True)
    records: list[Any] = [SimpleNamespace(key=k.to_bytes(8, "little"), value=v) for k, v in packed]
    out: dict[str, Any] = {}
    for name, now in (("active", rows.now), ("idle", rows.now + IDLE_MS + HOUR_MS)):
        recommender = Recommender(Policy())
        mirrors = Mirrors(recommender)

        def read(mirrors: Mirrors = mirrors, now: int = now) -> None:
            for first in range(0, count, 1000):
                mirrors.item_features(records[first : first + 1000], now)

        table = recommender.stats.table if name == "active" else recommender.stats.idle.table
        out[f"{name}_us"] = round(spent(read) / count * 1e6, 2)
        out[f"{name}_bytes"] = round(table.nbytes / len(table))

    def plain() -> None:
        to = new_table()
        for first in range(0, count, 1000):
            to.load(row_records(records[first : first + 1000]).rows)

    return out | {"plain_us": round(spent(plain) / count * 1e6, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 3_000_000])
    parser.add_argument("--refreshes", type=int, default=100)
    args = parser.parse_args()
    result: dict[str, Any] = {"active": ACTIVE, "changed": CHANGED, "countries": COUNTRIES}
    for count in args.rows:
        result[f"{count}_items"] = popular(count, args.refreshes) | {"newest": newest(count)}
    print(json.dumps(result | {"mirror": mirror()}))


if __name__ == "__main__":
    main()
