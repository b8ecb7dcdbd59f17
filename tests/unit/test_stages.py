"""The stages' pure parts under crashes: whatever is lost between two writes, the counts come out the same.

    events --> users.Partition --> item-events --> items.Partition
                 |  (1) item-events  (2) rows  (3) commit

A crash may fall before (1), between (1) and (2), or between (2) and (3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from agents.aggregate_items import Partition as ItemPartition
from agents.follow_catalog import CatalogFollower
from agents.track_users import Partition as UserPartition
from models.item_rows import row_key
from models.neighbours import ROW as NEIGHBOUR_ROW
from streams.columns import pack_item_events, read_item_events
from streams.schemas import Context, Event
from streams.settings import Settings

SETTINGS = Settings(dedup_window_ms=0)
T0 = 1_700_000_000_000


@dataclass
class Rec:
    offset: int
    key: bytes = b""
    value: bytes | None = None


def make_events(n: int, rng: np.random.Generator) -> list[Event]:
    kinds = ["click"] * 6 + ["skip", "dwell", "like", "hide"]
    return [
        Event(
            f"e{i}",
            str(rng.choice(kinds)),
            f"u{rng.integers(6)}",
            f"i{rng.integers(9)}",  # type: ignore[arg-type]
            T0 + i * 1000 - int(rng.integers(3000)),
            dwell_ms=1500,
            context=Context(country=f"c{rng.integers(2)}"),
        )
        for i in range(n)
    ]


class World:
    """Kafka as far as these stages see it, with processes that may die between two writes."""

    def __init__(self, events: list[Event], rng: np.random.Generator, crash: float) -> None:
        self.events, self.rng, self.crash = events, rng, crash
        self.item_events: list[bytes] = []
        self.user_rows: dict[bytes, bytes] = {}
        self.user_commit = 0
        self.features: dict[bytes, bytes] = {}
        self.neighbours: dict[bytes, bytes] = {}
        self.item_commit = 0
        self.crashes = 0

    def dies(self) -> bool:
        died = bool(self.rng.random() < self.crash)
        self.crashes += died
        return died

    def run_users(self) -> bool:
        """Run a process until it dies or has read everything; return whether it finished."""
        part = UserPartition(0, SETTINGS)
        part.users.table.load(list(self.user_rows.values()))
        at, catalog = self.user_commit, CatalogFollower()
        while at < len(self.events):
            to = min(len(self.events), at + int(self.rng.integers(1, 12)))
            part.events(self.events[at:to], [Rec(o) for o in range(at, to)], catalog)
            at = to
            if self.rng.random() < 0.3 and at < len(self.events):
                continue  # several batches in one flush
            keys, rows, _, out = part.take()
            if self.dies():
                return False
            packed = pack_item_events(out)
            cut = int(self.rng.integers(len(packed) + 1)) if self.dies() else len(packed)
            self.item_events += packed[:cut]
            if cut < len(packed) or self.dies():
                return False
            self.user_rows.update({k.to_bytes(8, "little"): r for k, r in zip(keys, rows, strict=True)})
            if self.dies():
                return False
            self.user_commit = at
        return True

    def run_items(self) -> bool:
        part = ItemPartition(0)
        part.recover(_Batch(self._records()))  # type: ignore[arg-type]
        part.neighbours.table.load(list(self.neighbours.values()))
        at = self.item_commit
        while at < len(self.item_events):
            to = min(len(self.item_events), at + int(self.rng.integers(1, 4)))
            part.apply(*read_item_events(self.item_events[at:to], list(range(at, to))))
            at = to
            features, pairs, _, _ = part.take()
            if self.dies():
                return False
            self.neighbours.update({k: v for k, v, *_ in pairs})  # type: ignore[misc]
            if self.dies():
                return False
            self.features.update({k: v for k, v, *_ in features})  # type: ignore[misc]
            if self.dies():
                return False
            self.item_commit = at
        return True

    def _records(self) -> list[Any]:
        return [Rec(0, k, v) for k, v in self.features.items()]


class _Batch:
    def __init__(self, records: list[Any]) -> None:
        self.records = records

    def __iter__(self) -> Any:
        return iter(self.records)


def outcome(world: World) -> tuple[dict[bytes, Any], dict[bytes, Any], dict[bytes, Any]]:
    """Return what matters of the durable state: all but the offsets, which differ with the batching."""
    from models.item_stats import COUNTRY_ROW
    from models.item_stats import ROW as ITEM_ROW
    from models.user_state import ROW as USER_ROW

    def plain(rows: dict[bytes, bytes], dtype: np.dtype[Any]) -> dict[bytes, Any]:
        out = {}
        for key, value in rows.items():
            row = np.frombuffer(value, dtype)[0]
            out[key] = {n: row[n].tolist() for n in dtype.names or () if n not in {"offset", "shown_offset"}}
        return out

    items = {k: v for k, v in world.features.items() if k[:1] == b"i"}
    countries = {k: v for k, v in world.features.items() if k[:1] == b"c"}
    return plain(world.user_rows, USER_ROW), plain(items, ITEM_ROW), plain(countries, COUNTRY_ROW)


def totals(world: World) -> float:
    from models.item_stats import ROW as ITEM_ROW

    return float(
        sum(np.frombuffer(v, ITEM_ROW)[0]["totals"].sum() for k, v in world.features.items() if k[:1] == b"i")
    )


@pytest.mark.parametrize("seed", range(12))
def test_counts_after_crashes_equal_counts_without(seed: int) -> None:
    events = make_events(160, np.random.default_rng(seed))
    calm = World(events, np.random.default_rng(seed), 0.0)
    assert calm.run_users()
    assert calm.run_items()
    rough = World(events, np.random.default_rng(seed + 1000), 0.12)
    for _ in range(2000):
        done = rough.run_users()
        rough.run_items()
        if done and rough.item_commit == len(rough.item_events):
            break
    assert rough.crashes >= 5, "the test must crash"
    assert rough.user_commit == len(events)
    calm_users, calm_items, calm_countries = outcome(calm)
    users, items, countries = outcome(rough)
    assert users == calm_users
    assert items == calm_items
    assert countries == calm_countries
    for key, packed in calm.neighbours.items():
        a, b = np.frombuffer(packed, NEIGHBOUR_ROW)[0], np.frombuffer(rough.neighbours[key], NEIGHBOUR_ROW)[0]
        assert {
            int(o): pytest.approx(float(w), rel=1e-4) for o, w in zip(a["other"], a["co"], strict=True)
        } == {int(o): float(w) for o, w in zip(b["other"], b["co"], strict=True)}


def test_without_the_marks_a_replay_would_be_counted_twice() -> None:
    """The guard is what makes the difference: the same item-events, written twice, count once."""
    events = make_events(40, np.random.default_rng(1))
    world = World(events, np.random.default_rng(1), 0.0)
    world.run_users()
    once = list(world.item_events)
    world.item_events = once + once
    assert world.run_items()
    twice_written = totals(world)
    single = World(events, np.random.default_rng(1), 0.0)
    single.item_events = once
    assert single.run_items()
    assert twice_written == totals(single) > 0


def test_row_keys_of_the_three_kinds_differ() -> None:
    assert len({row_key(kind, 5) for kind in (b"i", b"c", b"m")}) == 3
