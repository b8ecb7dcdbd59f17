"""Rows as the live code makes them from so many events, and their memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ingest.events import CATEGORIES, COUNTRIES, CREATORS, SHARES, falling
from ingest.memory import table_bytes

from headrace.agents.partitions.outcomes import JoinPartition
from headrace.models.state import idle_items, items, neighbours, shown, users
from headrace.serving.attributes import ItemAttributes
from headrace.streams.dedup import DedupWindow
from headrace.streams.messages.columns import ITEM_EVENT, KIND, EventColumns
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import Event, Item
from headrace.streams.settings import DAY_MS, HOUR_MS, Settings
from headrace.streams.tables.evicted import EvictedRows
from headrace.streams.tables.rows import PackedRows, RowTable
from headrace.streams.tables.spill import Spill, SpillFolder

NOW = 1_790_000_000_000
#: Rows of a point of a curve, and the items that events are on.
ROWS, ITEMS = 2000, 100_000
#: Events of a user, lists of a user, events of an item: the points of the curves.
USER_EVENTS, USER_LISTS, ITEM_EVENTS = (1, 4, 16, 64, 256), (1, 2, 4, 10, 20), (1, 10, 100, 1000, 10_000)
SLOTS = 20
#: Events of a session, and the pause between two.
SESSION, PAUSE_MS = 8, 20_000
_SHARES = np.array(list(SHARES.values()))
_KINDS = np.array([KIND[kind] for kind in SHARES])


def user_rows(each: int) -> tuple[RowTable, float]:
    """Return rows of users with so many events each, in sessions of 7 days, and pairs of items an event."""
    rng, n = np.random.default_rng(each), ROWS * each
    kind = rng.choice(_KINDS, n, p=_SHARES)
    item = rng.choice(ITEMS, n, p=falling(ITEMS, 1.0)).astype(np.uint64) + np.uint64(1)
    user = np.tile(hash_many([f"user-{u}" for u in range(ROWS)]), each)
    turn = np.repeat(np.arange(each), ROWS)  # the how-manieth event of its user
    begins = NOW - rng.integers(HOUR_MS, 7 * DAY_MS, (each // SESSION + 1, ROWS))
    ts = begins[turn // SESSION, np.tile(np.arange(ROWS), each)] + turn % SESSION * PAUSE_MS
    order = np.argsort(ts, kind="stable")
    user, ts = user[order], ts[order]
    events = EventColumns(
        user=user, item=item, kind=kind.astype(np.int8),
        ts=ts,
        dwell_s=np.where(kind == KIND["dwell"], rng.lognormal(3, 1, n), 0).astype(np.float32),
        country=hash_many(list(COUNTRIES))[rng.integers(0, len(COUNTRIES), n)], offset=np.arange(n),
        category=item % np.uint64(CATEGORIES) + np.uint64(1),
        creator=item % np.uint64(CREATORS) + np.uint64(1),
        of_creator=np.zeros(n, np.bool_), age_group=np.zeros(n, np.uint8),
    )  # fmt: skip
    state = users.UserState(users.new_table(), Settings().session_gap_ms)
    pairs = len(state.apply(events).pairs)
    return state.table, pairs / n


def shown_rows(each: int) -> RowTable:
    """Return rows of users who were shown so many lists."""
    rng, state, n = np.random.default_rng(each), shown.ShownState(), ROWS * each
    items_shown = rng.choice(ITEMS, n * SLOTS, p=falling(ITEMS, 1.0)).astype(np.uint64) + np.uint64(1)
    names = np.tile(hash_many([f"user-{u}" for u in range(ROWS)]), each)
    times = np.sort(NOW - rng.integers(60_000, 7 * DAY_MS, n))
    state.apply(names, np.full(n, SLOTS, np.int64), items_shown, times, np.arange(n))
    return state.table


def item_rows(each: int) -> tuple[RowTable, RowTable]:
    """Return rows of items with so many events each within 7 days, and their neighbour rows."""
    rng, count = np.random.default_rng(each), max(50, min(ROWS, 2_000_000 // each))
    events = np.zeros(count * each, ITEM_EVENT)
    events["item"] = np.repeat(hash_many([f"item-{i}" for i in range(count)]), each)
    events["other"] = rng.choice(ITEMS, len(events), p=falling(ITEMS, 1.0)) + 1
    events["ts"] = NOW - rng.integers(60_000, 7 * DAY_MS, len(events))
    events["country"] = hash_many(list(COUNTRIES))[rng.integers(0, len(COUNTRIES), len(events))]
    kinds = np.array([KIND[k] for k in ("shown", "click", "skip", "dwell", "like")], np.uint8)
    events["kind"], events["amount"] = kinds[rng.choice(5, len(events), p=[0.6, 0.2, 0.1, 0.08, 0.02])], 1
    events = events[np.argsort(events["ts"], kind="stable")]
    offsets = np.arange(len(events))
    state, near = items.ItemState(), neighbours.Neighbours()
    state.apply(events, offsets)
    events["kind"], events["seq_weight"] = KIND["pair"], 1.0
    near.apply(events, offsets)
    return state.table, near.table


def curves() -> Iterator[tuple[str, int, PackedRows]]:
    """Yield the name of a curve, x, and packed rows."""
    for n in USER_EVENTS:
        table, _ = user_rows(n)
        yield "user", n, table.pack(table.rows())
    for n in USER_LISTS:
        table = shown_rows(n)
        yield "shown", n, table.pack(table.rows())
    for n in ITEM_EVENTS:
        for name, table in zip(("item", "neighbour"), item_rows(n), strict=True):
            yield name, n, table.pack(table.rows())


def memory() -> dict[str, float]:
    """Return bytes a row, an id, an item, an event in the memory of a worker."""
    out: dict[str, float] = {}
    for name, dtype in (
        ("user", users.ROW), ("shown", shown.ROW), ("item", items.ROW), ("neighbour", neighbours.ROW),
        ("idle_item", idle_items.IDLE),
    ):  # fmt: skip
        out[f"{name}_row"] = table_bytes(RowTable(dtype), 200_000)["with_index"]
    return out | {
        "evicted_row": _evicted(), "dedup_id": _ids(), "item_attribute": _attributes(),
        "join_event": _join_events(),
    }  # fmt: skip


def _evicted() -> float:
    kept = EvictedRows(Spill(SpillFolder()))
    for part in range(20):
        rng = np.random.default_rng(part)
        table = user_rows(4)[0]
        view = table.view()[table.rows()].copy()
        view["key"] = rng.integers(1, 1 << 63, len(view))
        fresh = users.new_table()
        fresh.load(view)
        kept.move(fresh, view["key"].copy())
    return round(kept.nbytes / len(kept), 1)


def _ids() -> float:
    """Return bytes for each id of the window at a steady rate, after several windows."""
    window = DedupWindow(600_000)
    rng, each = np.random.default_rng(1), 4000
    sizes = []
    for turn in range(600):  # 600,000 ids in a window of 150 turns
        at = np.full(each, NOW + turn * 4000, np.int64)
        window.fresh(rng.integers(1, 1 << 63, each).astype(np.uint64), at)
        if turn > 300:
            sizes.append(window.nbytes)
    return round(max(sizes) / (each * 150), 1)


def _attributes() -> float:
    known = ItemAttributes()
    for start in range(0, 100_000, 1000):
        known.put_many([
            Item(item_id=f"item-{i}", published_ts=NOW, category=f"c-{i % 40}", creator_id=f"u-{i % 2000}")
            for i in range(start, start + 1000)
        ])  # fmt: skip
    return round(known.nbytes / len(known), 1)


def _join_events() -> float:
    wait, count = 600_000, 100_000
    part = JoinPartition(wait, 0, NOW, unshown=True)
    empty = part.nbytes
    for start in range(0, count, 1000):
        events = [
            (Event(f"e{i}", "click", f"user-{i % 5000}", f"item-{i}", NOW, request_id=f"r{i}"), NOW)
            for i in range(start, start + 1000)
        ]
        part.happen(events, NOW)
    return round((part.nbytes - empty) / count, 1)
