"""The pure parts of the stages under crashes: the counts are the same after a crash between any two writes.

    events --> UserPartition --> item-events --> ItemPartition
                 |  (1) item-events  (2) rows  (3) commit

A crash may come before (1), between (1) and (2), or between (2) and (3). Some events are retries, and the
window of seen ids is rebuilt from the log, as in the agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from plain_item_events import values_of
from shown_states import shown_state

from headrace.agents.partitions.items import ItemPartition
from headrace.agents.partitions.source_marks import SourceMark
from headrace.agents.partitions.users import UserPartition
from headrace.agents.stage.item_events_out import leave_alone
from headrace.models.state import items as item_state
from headrace.models.state import neighbours
from headrace.models.state import users as user_state
from headrace.models.state.item_events import combine_item_events, new_item_events
from headrace.serving.catalog import Catalog
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.columns import (
    ITEM_EVENT,
    EventBatch,
    Limits,
    read_events,
)
from headrace.streams.messages.packed_item_events import unpack_item_events
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import Changes, StatePartition
from headrace.streams.tables.rows import RowTable, unpack

SETTINGS = Settings(dedup_window_ms=60_000)
T0 = 1_700_000_000_000
DECODER = Decoder(Event, 65_536)
LIMITS = Limits(1, SETTINGS.lateness_ms, SETTINGS.future_ms)


def decode(records: list[Rec]) -> EventBatch:
    decoded = DECODER.batch(records)
    return read_events(decoded.values, decoded.records, 0, LIMITS, T0)


@dataclass
class Rec:
    offset: int
    key: bytes | None = b""
    value: bytes | None = None
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


def make_events(n: int, rng: np.random.Generator) -> list[Rec]:
    """Return the records of `events`: every tenth is a retry of one of the last twenty."""
    kinds = ["click"] * 6 + ["skip", "dwell", "like", "hide"]
    out: list[Rec] = []
    for i in range(n):
        if i > 20 and rng.random() < 0.1:
            again = out[i - int(rng.integers(1, 20))]
            out.append(Rec(i, again.key, again.value, T0 + i * 1000))
            continue
        event = {
            "event_id": f"e{i}",
            "type": str(rng.choice(kinds)),
            "user_id": f"u{rng.integers(6)}",
            "item_id": f"i{rng.integers(9)}",
            "ts": T0 + i * 1000 - int(rng.integers(3000)),
            "dwell_ms": 1500,
            "context": {"country": f"c{rng.integers(2)}"},
        }
        out.append(Rec(i, event["user_id"].encode(), msgspec.json.encode(event), T0 + i * 1000))
    return out


def test_events_that_wait_in_a_partition_that_stays_over_a_rebalance_count() -> None:
    """One is applied and not sent, one is read again before the end that the rebalance met, one after it."""
    part = UserPartition([table(user_state, user_state.ORDER), shown_state()], SETTINGS)
    records = []
    for n, item in enumerate("aba"):
        event = {"event_id": f"e{n}", "type": "like", "user_id": "u", "item_id": item, "ts": T0 + n}
        records.append(Rec(n, b"u", msgspec.json.encode(event), T0 + n))
    for n, record in enumerate(records):
        if n < 2:
            part.resume()
            part.met_end("events", 2 * n)
        part.events([record], decode([record]), Catalog())
    *_, out = part.take()
    leave_alone(out)
    events = combine_item_events(np.concatenate(out))
    assert events["amount"][new_item_events(events, {}, SourceMark)].sum() == 3


def table(module: Any, order: tuple[str, ...] = ("offset",)) -> StatePartition:
    return StatePartition(0, RowTable(module.ROW, module.BLANK[()], order))


class Log:
    """A changelog."""

    def __init__(self) -> None:
        self.records: list[Rec] = []

    def append(self, changes: Changes) -> None:
        for key, value, *_ in changes.records():
            self.records.append(Rec(len(self.records), key, value))

    def recover(self, state: StatePartition) -> StatePartition:
        state.apply(self.records, len(self.records))
        return state

    def rows(self, module: Any) -> dict[int, Any]:
        last = {r.key: r.value for r in self.records if r.key is not None and len(r.key) == 8}
        return {int.from_bytes(k, "little"): unpack([v], module.ROW)[0][0] for k, v in last.items() if v}


class World:
    """The part of Kafka that these stages use, with processes that may die between two writes."""

    def __init__(self, events: list[Rec], rng: np.random.Generator, crash: float) -> None:
        self.events, self.rng, self.crash = events, rng, crash
        self.item_events: list[bytes] = []
        self.users, self.items, self.countries, self.pairs = Log(), Log(), Log(), Log()
        self.user_commit = self.item_commit = self.crashes = 0
        self.visible = 0  # number of events that are in the topic by now
        self.put_together = 0
        self.late: list[list[bytes]] = []  # record batches of processes that were paused

    def dies(self) -> bool:
        died = bool(self.rng.random() < self.crash)
        self.crashes += died
        return died

    def run_users(self) -> bool:
        """Run a process until it dies or has read everything; return whether it finished."""
        users = self.users.recover(table(user_state, user_state.ORDER))
        part = UserPartition([users, shown_state()], SETTINGS)
        at, catalog = self.user_commit, Catalog()
        if at and at < len(self.events):
            since = self.events[at].timestamp - SETTINGS.dedup_window_ms
            earlier = [r for r in self.events[:at] if r.timestamp >= since]
            if earlier:
                part.duplicates(earlier, decode(earlier))
        part.met_end("events", self.visible)
        while at < len(self.events):
            to = min(len(self.events), at + int(self.rng.integers(1, 12)))
            records = self.events[at:to]
            part.events(records, decode(records), catalog)
            at = to
            self.visible = max(self.visible, at)
            if self.rng.random() < 0.3 and at < len(self.events):
                continue  # several batches in one write
            *_, out = part.take()
            changes = part.state.take()
            if self.dies():
                return False
            batches = self.batches(np.concatenate(out) if out else np.zeros(0, ITEM_EVENT))
            cut = int(self.rng.integers(len(batches) + 1)) if self.dies() else len(batches)
            self.item_events += [value for batch in batches[:cut] for value in batch]
            if self.late and self.rng.random() < 0.5:
                self.item_events += self.late.pop(0)
            if cut < len(batches) or self.dies():
                if self.rng.random() < 0.5:  # it is only paused: it sends the rest when others have gone on
                    self.late += batches[cut:]
                return False
            if self.rng.random() < 0.3 and at < len(self.events):
                part.state.put_back(changes)  # only the next stage has it: an online flush
                continue
            self.users.append(changes)
            if self.dies():
                return False
            self.user_commit = at
        return True

    def batches(self, out: Any) -> list[list[bytes]]:
        """Return the values of record batches: the broker takes each as a whole."""
        step = int(self.rng.integers(1, 60))
        together = [combine_item_events(out[i : i + step]) for i in range(0, len(out), step)]
        self.put_together += len(out) - sum(map(len, together))
        return [values_of(part) for part in together]

    def run_items(self) -> bool:
        part = ItemPartition(
            [
                self.items.recover(table(item_state)),
                self.countries.recover(table(item_state)),
                self.pairs.recover(table(neighbours)),
            ]
        )
        at = self.item_commit
        while at < len(self.item_events):
            to = min(len(self.item_events), at + int(self.rng.integers(1, 4)))
            events, offsets, sound = unpack_item_events(self.item_events[at:to], range(at, to))
            assert sound.all()
            part.apply(events, offsets)
            at = to
            items, countries, pairs = part.changes()
            for log, changes in ((self.pairs, pairs), (self.countries, countries), (self.items, items)):
                if self.dies():
                    return False
                log.append(changes)
            if self.dies():
                return False
            self.item_commit = at
        return True


def outcome(world: World) -> list[dict[int, Any]]:
    """Return the durable state without the offsets, which depend on the batching."""

    def plain(log: Log, module: Any) -> dict[int, Any]:
        names = [n for n in module.ROW.names if n not in user_state.ORDER]
        return {k: {n: row[n].tolist() for n in names} for k, row in log.rows(module).items()}

    return [
        plain(world.users, user_state),
        plain(world.items, item_state),
        plain(world.countries, item_state),
    ]


def totals(world: World) -> int:
    return int(sum(row["totals"].sum() for row in world.items.rows(item_state).values()))


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
    assert calm.put_together > 0, "item events must be put together"
    assert rough.user_commit == len(events)
    for name, here, there in zip(("users", "items", "countries"), outcome(rough), outcome(calm), strict=True):
        assert here.keys() == there.keys(), name
        for key, row in there.items():
            for field, value in row.items():
                assert np.allclose(here[key][field], value, rtol=1e-4, atol=0), (name, field)
    calm_pairs, rough_pairs = (w.pairs.rows(neighbours) for w in (calm, rough))
    for key, row in calm_pairs.items():
        again = rough_pairs[key]
        assert {
            int(o): pytest.approx(float(w), rel=1e-4) for o, w in zip(row["other"], row["co"], strict=True)
        } == {int(o): float(w) for o, w in zip(again["other"], again["co"], strict=True)}


def test_events_count_once_however_often_they_are_sent() -> None:
    events = make_events(200, np.random.default_rng(3))
    world = World(events, np.random.default_rng(3), 0.0)
    assert world.run_users()
    ids = {msgspec.json.decode(r.value or b"")["event_id"]: r.value for r in events}
    kinds = [msgspec.json.decode(v or b"")["type"] for v in ids.values()]
    assert len(kinds) < len(events), "there must be retries"
    rows = world.users.rows(user_state).values()
    clicks = sum(int(row["totals"][user_state.METRICS.index("click")]) for row in rows)
    assert clicks == kinds.count("click")


def test_without_the_marks_a_replay_would_be_counted_twice() -> None:
    """The guard is what makes the difference: the same item-events, written twice, count once."""
    events = make_events(40, np.random.default_rng(1))
    world = World(events, np.random.default_rng(1), 0.0)
    world.run_users()
    once = list(world.item_events)
    world.item_events = once + once
    assert world.run_items()
    single = World(events, np.random.default_rng(1), 0.0)
    single.item_events = once
    assert single.run_items()
    assert totals(world) == totals(single) > 0


def test_records_that_come_again_after_a_rebalance_are_known() -> None:
    """State that stays is ahead of the committed offsets."""
    from headrace.streams.transport.batches import RecordBatch

    part = UserPartition([table(user_state, user_state.ORDER), shown_state()], SETTINGS)
    records = make_events(30, np.random.default_rng(5))
    assert len(part.unseen(RecordBatch("events", 0, records[:20]))) == 20
    part.seen(RecordBatch("events", 0, records[:20]))
    assert [r.offset for r in part.unseen(RecordBatch("events", 0, records[10:30]))] == list(range(20, 30))
    part.seen(RecordBatch("events", 0, records[10:30]))
    assert part.unseen(RecordBatch("events", 0, records[:30])) == []
    assert len(part.unseen(RecordBatch("impressions", 0, records[:5]))) == 5, "another topic's offsets"


def test_a_gap_after_a_rebalance_is_noticed_once() -> None:
    from headrace.streams.transport.batches import RecordBatch

    part = UserPartition([table(user_state, user_state.ORDER), shown_state()], SETTINGS)
    records = make_events(40, np.random.default_rng(5))
    first, gap = RecordBatch("events", 0, records[:10]), RecordBatch("events", 0, records[15:20])
    assert part.continues(first)
    part.seen(first)
    assert part.continues(gap), "a hole in the topic: nobody else was here"
    part.seen(gap)
    part.resume()
    assert part.continues(RecordBatch("events", 0, records[18:25])), "delivered again, and on"
    part.seen(RecordBatch("events", 0, records[18:25]))
    part.resume()
    assert not part.continues(RecordBatch("events", 0, records[30:35]))
    assert part.continues(RecordBatch("events", 0, records[35:40]))
