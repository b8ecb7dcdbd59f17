"""One history as raw records, for the live code and for the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st
from strategies import T0, record

from headrace.console.verification.live import LiveItems, LiveUsers
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.models.state.items import ItemState
from headrace.models.state.neighbours import Neighbours
from headrace.models.state.users import UserState, item_events
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.hidden import compare_hidden
from headrace.oracle.compare.items import compare_items
from headrace.oracle.compare.users import compare_users
from headrace.oracle.features.affinities import item_attributes
from headrace.oracle.features.items import items_of
from headrace.oracle.features.judge import accepted, judge
from headrace.oracle.features.users import users_of
from headrace.oracle.records.frames import raw_records
from headrace.oracle.records.readers import read_events, read_items
from headrace.oracle.records.shown import read_shown
from headrace.streams.dedup import NO_TIME, DedupWindow, stream_times
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.columns import ITEM_EVENT, KIND, event_columns
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Event, check_event
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS
from headrace.streams.tables.rows import RowTable

SHOWN_GROUP = 3
LATENESS, FUTURE, DEDUP = HOUR_MS, 5 * MINUTE_MS, 10 * MINUTE_MS
CATEGORY = {f"item-{i}": f"category-{i % 3}" if i % 4 else "" for i in range(8)}

encode = msgspec.json.encode


def check_live(event: Event, r: Any) -> None:
    check_key(r, "user_id", event.user_id)
    check_event(event, r.timestamp, LATENESS, FUTURE)


class Live:
    """One partition of users and all items, fed by batches of raw records with the live code."""

    def __init__(self) -> None:
        self.users = UserState(RowTable(user_state.ROW, user_state.BLANK[()]), 30 * MINUTE_MS)
        self.items = ItemState()
        self.neighbours = Neighbours()
        self._dedup = DedupWindow(DEDUP)
        self._newest = NO_TIME
        self._decoder = Decoder(Event, 5000, check_live)
        self._written = 0

    def events(self, records: Sequence[Any]) -> None:
        decoded = self._decoder.batch(records)
        times = stream_times(np.array([r.timestamp for r in records], np.int64), self._newest)
        self._newest = int(times[-1])
        offsets = np.array([r.offset for r in decoded.records], np.int64)
        times = times[np.searchsorted([r.offset for r in records], offsets)]
        fresh = self._dedup.fresh(hash_many([e.event_id for e in decoded.values]), times)
        columns = event_columns(decoded.values, offsets.tolist()).where(fresh)
        columns.category = hash_many([CATEGORY[e.item_id] for e in np.array(decoded.values, object)[fresh]])
        columns.creator = columns.category
        self._to_items(item_events(self.users.apply(columns), 0))

    def shown(self, users: Sequence[str], items: Sequence[Sequence[str]], ts: Sequence[int]) -> None:
        slots = np.array([len(i) for i in items], np.int64)
        at, offsets = np.array(ts, np.int64), np.arange(len(users))
        self.users.shown(hash_many(users), slots, at, offsets)
        out = np.zeros(int(slots.sum()), ITEM_EVENT)
        out["item"] = hash_many([i for shown in items for i in shown])
        out["country"], out["amount"], out["kind"] = hash64("BR"), 1, KIND["shown"]
        out["age_group"] = SHOWN_GROUP
        out["ts"] = np.repeat(at, slots)
        self._to_items(out)

    def _to_items(self, out: np.ndarray[Any, Any]) -> None:
        pairs = out["kind"] == KIND["pair"]
        offsets = np.full(len(out), self._written, np.int64)
        self._written += 1
        self.items.apply(out[~pairs], offsets[~pairs])
        self.neighbours.apply(out[pairs], offsets[pairs])

    def user_values(self) -> LiveUsers:
        return LiveUsers(rows_of(self.users.table))

    def item_values(self) -> tuple[LiveItems, LiveItems]:
        return (
            LiveItems(rows_of(self.items.table), by_country=False),
            LiveItems(rows_of(self.items.countries), by_country=True),
        )


def rows_of(table: RowTable) -> np.ndarray[Any, Any]:
    return table.data[table.rows()].copy()


class Known:
    """The same raw records as the oracle sees them."""

    def __init__(self, records: Sequence[Any], shown: Sequence[tuple[str, list[str], int]]) -> None:
        raw = raw_records("events", 0, records)
        self.judged = judge(read_events(raw, max_bytes=5000, lateness_ms=LATENESS, future_ms=FUTURE), DEDUP)
        seen = [
            record(
                encode(
                    {"user_id": u, "ts": ts, "country": "BR", "item_ids": items, "age_group": SHOWN_GROUP}
                ),
                offset=i,
            )
            for i, (u, items, ts) in enumerate(shown)
        ]
        self.shown = read_shown(raw_records("impressions", 0, seen), max_bytes=5000)
        events = accepted(self.judged)
        self.users = users_of(events, self.shown)
        self.items = items_of(events, self.shown)
        catalog = [
            record(
                encode({"item_id": i, "published_ts": T0, "category": c, "creator_id": c}),
                key=i.encode(),
                timestamp=T0 - DAY_MS,
            )
            for i, c in CATEGORY.items()
        ]
        self.attributes = item_attributes(read_items(raw_records("items", 0, catalog), max_bytes=5000))


def compare(known: Known, live: Live, at: Sequence[int]) -> Findings:
    findings = Findings()
    rows = compare_users(findings, known.users, live.user_values(), known.attributes, at)
    compare_hidden(findings, rows, accepted(known.judged), live.user_values(), known.attributes)
    for part, values in zip(known.items, live.item_values(), strict=True):
        compare_items(findings, part, values, at)
    return findings


#: An event: user, kind, item, time since the one before it, lateness, dwell, country, id (of a few, so that
#: there are duplicates), whether it is garbage.
did = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["click", "click", "click", "skip", "dwell", "like", "save", "follow", "hide"]),
    st.integers(0, 7),
    st.one_of(st.integers(-MINUTE_MS, 5 * MINUTE_MS), st.sampled_from([0, HOUR_MS, DAY_MS])),
    st.one_of(st.integers(-FUTURE - 5000, LATENESS + 5000), st.integers(0, 2000), st.just(LATENESS)),
    st.one_of(st.integers(0, 5000), st.sampled_from([60_000, 86_400_000])),
    st.sampled_from(["", "BR", "NL"]),
    st.integers(0, 30),
    st.sampled_from([False] * 9 + [True]),
)
saw = st.tuples(
    st.integers(0, 3),
    st.lists(st.integers(0, 7), max_size=5),
    st.integers(0, 3 * DAY_MS).map(lambda n: T0 + n),
)


def records_of(history: Sequence[Any]) -> list[Any]:
    out, clock = [], T0
    for offset, (user, kind, item, step, late, dwell, country, event_id, garbage) in enumerate(history):
        clock += step
        body = encode(
            {
                "event_id": f"e{event_id}" if event_id < 20 else f"unique-{offset}",
                "type": kind,
                "user_id": f"user-{user}",
                "item_id": f"item-{item}",
                "ts": clock - late,
                "dwell_ms": dwell,
                "context": {"country": country} | ({"age": 16 + offset % 60} if offset % 3 else {}),
                "scope": "creator" if offset % 2 else "item",
            }
        )
        out.append(
            record(
                body[:-1] if garbage else body, key=f"user-{user}".encode(), offset=offset, timestamp=clock
            )
        )
    return out


def some_history() -> tuple[Live, Known]:
    rng = np.random.default_rng(5)
    kinds = ["click", "skip", "dwell", "like", "save", "follow", "hide"]
    history = [
        (user, kinds[kind], item, 20_000, late, dwell, ["", "BR", "NL"][place], 30, False)
        for user, kind, item, late, dwell, place in rng.integers(
            [0, 0, 1, 0, 0, 0], [4, len(kinds), 8, 60_000, 60_000, 3], (300, 6)
        ).tolist()
    ]
    shown = [(f"user-{i % 4}", ["item-1", "item-2"], T0 + i * MINUTE_MS) for i in range(20)]
    records = records_of(history)
    live, known = Live(), Known(records, shown)
    live.events(records)
    live.shown(*zip(*shown, strict=True))
    return live, known


def country(item: str, place: str) -> int:
    return int(item_state.country_key(hash_many([item]), hash_many([place]))[0])
