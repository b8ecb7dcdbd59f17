"""Users are forgotten while workers crash: pairs of items are what the oracle says, tombstones in any order.

    events, users --> UserPartition --> item-events --> ItemPartition --> compared with the oracle
                       |  (1) item-events  (2) rows  (3) commit

Every run reads both topics in an order of its own, and may die before each write.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from oracle_stories import told
from shown_states import shown_state
from strategies import T0, record

from headrace.agents.partitions.items import ItemPartition
from headrace.agents.partitions.users import UserPartition
from headrace.console.verification.live import LiveUsers
from headrace.console.verification.live_neighbours import LiveNeighbours
from headrace.models.state import items as item_state
from headrace.models.state import neighbours
from headrace.models.state import users as user_state
from headrace.models.state.item_events import combine_item_events, split_item_events
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.neighbours import ROWS, compare_neighbours
from headrace.oracle.features.clicks import PartitionPairs
from headrace.oracle.features.judge import judge
from headrace.oracle.features.since import Stories
from headrace.oracle.records.frames import raw_records
from headrace.oracle.records.profiles import read_users
from headrace.oracle.records.readers import read_events
from headrace.oracle.records.shown import read_shown
from headrace.serving.catalog import Catalog
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.columns import ITEM_EVENT, Limits
from headrace.streams.messages.columns import read_events as decode
from headrace.streams.messages.packed_item_events import pack_item_events, unpack_item_events
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import DAY_MS, MINUTE_MS, Settings
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import RowTable, unpack

SETTINGS = Settings(dedup_window_ms=0)
DECODER = Decoder(Event, 65_536)
LIMITS = Limits(1, SETTINGS.lateness_ms, SETTINGS.future_ms)
#: Partitions of `item-events`: each may have got another part of what a worker sent before it died.
PARTS = 2


def click(offset: int, user: int, item: int, ts: int) -> Any:
    body = {"event_id": f"e{offset}", "type": "click", "user_id": f"u{user}", "item_id": f"i{item}", "ts": ts}
    return record(msgspec.json.encode(body), key=f"u{user}".encode(), offset=offset, timestamp=ts)


def tombstone(offset: int, user: int) -> Any:
    return record(None, key=f"u{user}".encode(), offset=offset, timestamp=T0)


def packed(events: Any) -> list[bytes]:
    blob, bounds = pack_item_events(events)
    return [bytes(blob[a:b]) for a, b in pairwise(bounds.tolist())]


def table(module: Any, order: tuple[str, ...] = ("offset",)) -> StatePartition:
    return StatePartition(0, RowTable(module.ROW, module.BLANK[()], order))


class DeadError(Exception):
    """The process was killed."""


class World:
    """Kafka's part; ``parting``: whether tombstones are durable before later events, as in the agent."""

    def __init__(self, events: list[Any], users: list[Any], seed: int, *, parting: bool = True) -> None:
        self.events, self.users, self.parting = events, users, parting
        self.rng = np.random.default_rng(seed)
        self.log: list[Any] = []  # `user-state`
        self.item_events: list[list[bytes]] = [[] for _ in range(PARTS)]
        self.commits = [0, 0]
        self.met = self.crashes = 0

    def may_die(self) -> None:
        if self.rng.random() < 0.1 and self.crashes < 40:
            self.crashes += 1
            raise DeadError

    def run(self) -> None:
        """Read everything; a process that dies is started again."""
        while self.commits != [len(self.events), len(self.users)]:
            try:
                self._process()
            except DeadError:
                continue

    def _process(self) -> None:
        state = table(user_state, user_state.ORDER)
        state.apply(self.log, len(self.log))
        part, at = UserPartition([state, shown_state()], SETTINGS), list(self.commits)
        part.met_end("events", self.met)
        share = self.rng.random()  # how often events are read before `users`
        while at != [len(self.events), len(self.users)] or not state.clean:
            which = int(self.rng.random() > share)
            source = (self.events, self.users)[which]
            if at[which] < len(source):
                self._read(part, at, which)
            if self.rng.random() < 0.5:
                self._send(part)
            if self.rng.random() < 0.1:
                self._save(part, at)
        self._save(part, at)

    def _read(self, part: UserPartition, at: list[int], which: int) -> None:
        to = at[which] + int(self.rng.integers(1, 5))
        if which:
            for r in self.users[at[1] : to]:
                part.user_record(r.key.decode(), None, r)
        else:
            if part.parted and self.parting:
                self._save(part, at)
                part.parted = False
            records = self.events[at[0] : to]
            decoded = DECODER.batch(records)
            part.events(records, decode(decoded.values, decoded.records, 0, LIMITS, T0 + DAY_MS), Catalog())
        at[which] = min(to, len((self.events, self.users)[which]))
        self.met = max(self.met, at[0])

    def _send(self, part: UserPartition) -> None:
        *_, out = part.take()
        self.may_die()
        events, sizes = split_item_events([np.zeros(0, ITEM_EVENT), *out], PARTS)
        ends = np.cumsum(sizes).tolist()
        try:
            self.may_die()
            cut = 1.0
        except DeadError:
            cut = self.rng.random()
        for number, (size, end) in enumerate(zip(sizes.tolist(), ends, strict=True)):
            mine = events[end - size : end]
            step = int(self.rng.integers(1, 9))
            batches = [combine_item_events(mine[i : i + step]) for i in range(0, len(mine), step)]
            kept = batches if cut == 1.0 else batches[: int(self.rng.integers(len(batches) + 1))]
            self.item_events[number] += [value for batch in kept for value in packed(batch)]
        if cut < 1.0:
            raise DeadError

    def _save(self, part: UserPartition, at: list[int]) -> None:
        self._send(part)
        (changes, _), done = part.changes(), list(at)
        for key, value, *_ in changes.records():
            self.log.append(record(value, key=key, offset=len(self.log)))
            if self.rng.random() < 0.05:
                self.may_die()
        part.state.written(changes)
        self.may_die()
        self.commits = done

    # -- what came of it

    def rows(self) -> Any:
        last = {r.key: r.value for r in self.log if r.key is not None and len(r.key) == 8}
        return unpack(list(last.values()), user_state.ROW)[0]

    def neighbours(self, number: int) -> Any:
        states = [table(item_state), table(item_state), table(neighbours)]
        part, values = ItemPartition(states), self.item_events[number]
        if values:
            part.apply(*unpack_item_events(values, list(range(len(values))))[:2])
        rows = states[2].rows
        return rows.data[rows.rows()].copy()

    def compare(self) -> Findings:
        raw = raw_records("events", 0, self.events)
        told = read_events(raw, max_bytes=5000, lateness_ms=DAY_MS, future_ms=DAY_MS)
        users = read_users(raw_records("users", 0, self.users), max_bytes=5000)
        stories = Stories.of(judge(told, 0), read_shown(raw_records("i", 0, []), max_bytes=9), users)
        pairs = PartitionPairs(SETTINGS.session_gap_ms)
        pairs.add(stories, LiveUsers(self.rows()).marks)
        findings, names = Findings(), pl.DataFrame(schema={"item": pl.UInt64, "name": pl.String})
        for number in range(PARTS):
            known = pairs.neighbours().of_partition(number, PARTS, pairs.unsure)
            live = LiveNeighbours(self.neighbours(number))
            compare_neighbours(findings, known, live, names, pairs.unsure)
        return findings


def some_world(seed: int, *, parting: bool = True) -> World:
    """Four users in sessions of a few clicks, some clicks late; three of them are forgotten once."""
    rng = np.random.default_rng(seed)
    n = 160
    ts = T0 + np.cumsum(rng.choice([1, 2, 40], n, p=[0.5, 0.42, 0.08])) * MINUTE_MS
    ts -= rng.choice([0, 3], n, p=[0.9, 0.1]) * MINUTE_MS
    events = [click(i, int(rng.integers(4)), int(rng.integers(120)), int(t)) for i, t in enumerate(ts)]
    gone = rng.permutation(4)[:3].tolist()
    return World(events, [tombstone(i, user) for i, user in enumerate(gone)], seed + 1000, parting=parting)


@pytest.mark.parametrize("seed", range(20))
def test_pairs_are_what_the_oracle_says_after_any_crashes(seed: int) -> None:
    world = some_world(seed)
    world.run()
    assert world.crashes > 5
    findings = world.compare()
    assert told(findings) == []
    assert findings.by_kind[ROWS] > 3 * findings.left_out[ROWS]


def test_without_the_rule_pairs_of_another_history_count() -> None:
    """A worker that dies after later events were sent has applied the tombstone at a place of its own."""

    def differs(seed: int) -> bool:
        world = some_world(seed, parting=False)
        world.run()
        return world.compare().differences > 0

    assert any(differs(seed) for seed in range(30))
