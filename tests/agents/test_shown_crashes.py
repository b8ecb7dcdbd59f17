"""What users were shown while workers crash: rows are what the oracle says, tombstones in any order.

    impressions, users --> UserPartition --> shown-state, user-state --> compared with the oracle
                            (1) rows of what users were shown  (2) rows of users  (3) commit

Every run reads both topics in an order of its own, and may die before each write, and in the middle of one.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from oracle_stories import told
from shown_states import shown_state
from strategies import T0, record

from headrace.agents.partitions.users import Shown, UserPartition
from headrace.console.verification.live import LiveUsers
from headrace.console.verification.live_shown import LiveShown
from headrace.models.state import shown
from headrace.models.state import users as user_state
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.shown import ITEMS, compare_shown
from headrace.oracle.features.since import Stories
from headrace.oracle.records.frames import EVENTS, raw_records
from headrace.oracle.records.profiles import read_users
from headrace.oracle.records.shown import read_shown
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.ids import hash_many
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.tables.changes import Changes
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import unpack

SETTINGS = Settings(dedup_window_ms=0)
DECODER = Decoder(Shown, 1 << 20)
USERS = 5


def impression(offset: int, user: int, items: list[int], ts: int) -> Any:
    body = {"user_id": f"u{user}", "ts": ts, "country": "", "item_ids": [f"i{item}" for item in items]}
    return record(msgspec.json.encode(body), key=f"u{user}".encode(), offset=offset, timestamp=ts)


def tombstone(offset: int, user: int) -> Any:
    return record(None, key=f"u{user}".encode(), offset=offset, timestamp=T0 + offset)


class DeadError(Exception):
    """The process was killed."""


class World:
    """Kafka's part. ``order``: the state stores in the order of writing; the agent writes users last."""

    def __init__(self, seed: int, *, order: tuple[int, int] = (1, 0)) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.order = order
        many = int(rng.choice([40, 400]))  # more items than a row has, or fewer
        self.impressions = [
            impression(
                i, int(rng.integers(USERS)), rng.integers(many, size=int(rng.integers(0, 25))).tolist(),
                T0 + i * 1000 - int(rng.integers(5000)),
            )
            for i in range(150)
        ]  # fmt: skip
        self.users = [tombstone(i, int(user)) for i, user in enumerate(rng.integers(USERS, size=7))]
        self.logs: list[list[Any]] = [[], []]  # `user-state`, `shown-state`
        self.commits = [0, 0]
        self.crashes = self.evicted = 0

    def may_die(self, chance: float = 0.2) -> None:
        if self.rng.random() < chance and self.crashes < 60:
            self.crashes += 1
            raise DeadError

    def run(self) -> None:
        """Read everything; a process that dies is started again."""
        while self.commits != [len(self.impressions), len(self.users)]:
            try:
                self._process()
            except DeadError:
                continue

    def _states(self) -> list[StatePartition]:
        users = StatePartition(0, user_state.new_table(), order=user_state.ORDER)
        states = [users, shown_state()]
        for state, log in zip(states, self.logs, strict=True):
            state.apply(log, len(log))
        return states

    def _process(self) -> None:
        part, at = UserPartition(self._states(), SETTINGS), list(self.commits)
        share = self.rng.random()  # how often impressions are read before `users`
        while at != [len(self.impressions), len(self.users)]:
            which = int(self.rng.random() > share)
            source = (self.impressions, self.users)[which]
            if at[which] < len(source):
                to = min(len(source), at[which] + int(self.rng.integers(1, 9 if not which else 2)))
                self._apply(part, which, source[at[which] : to])
                at[which] = to
            if self.rng.random() < 0.3:
                self._save(part, at)
            elif self.rng.random() < 0.3:
                part.lists.take()  # an online flush
        self._save(part, at)

    def _apply(self, part: UserPartition, which: int, records: list[Any]) -> None:
        keys = hash_many([r.key.decode() for r in records])
        for state in part.states:  # as the stage does: few rows are in memory, and those that are needed
            state.evict(max_rows=2)
            self.evicted += len(state.evicted(keys))
            assert not len(state.restore(keys))
        if which:
            for r in records:
                part.user_record(r.key.decode(), None, r)
        else:
            decoded = DECODER.batch(records)
            part.shown(decoded.values, decoded.records)

    def _save(self, part: UserPartition, at: list[int]) -> None:
        self.may_die()
        users, shown_rows = part.take()[0], part.lists.take()[0]
        changes, done = part.changes(users, shown_rows), list(at)
        if self.rng.random() < 0.1:  # a write that was refused is tried again later
            for change in changes:
                change.partition.put_back(change)
            return
        for which in self.order:
            self._write(which, changes[which])
            self.may_die()
        self.commits = done

    def _write(self, which: int, changes: Changes) -> None:
        for key, value, *_ in changes.records():
            self.may_die(0.02)
            self.logs[which].append(record(value, key=key, offset=len(self.logs[which])))
        changes.partition.written(changes)

    # -- what came of it

    def rows(self, which: int) -> Any:
        last = {r.key: r.value for r in self.logs[which] if r.key is not None and len(r.key) == 8}
        return unpack(list(last.values()), (user_state.ROW, shown.ROW)[which])[0]

    def compare(self) -> Findings:
        seen = read_shown(raw_records("impressions", 0, self.impressions), max_bytes=1 << 20)
        users = read_users(raw_records("users", 0, self.users), max_bytes=5000)
        findings = Findings()
        compare_shown(
            findings,
            Stories.of(pl.DataFrame(schema=EVENTS), seen, users),
            LiveShown(self.rows(1)),
            LiveUsers(self.rows(0)).marks.select("user", "shown_since"),
            now=T0 + DAY_MS,
            ttl_ms=30 * DAY_MS,
        )
        return findings


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_what_the_oracle_says_after_any_crashes(seed: int) -> None:
    world = World(seed)
    world.run()
    assert world.crashes > 5
    assert world.evicted > 20
    findings = world.compare()
    assert told(findings) == []
    assert findings.by_kind[ITEMS] > 0


def test_where_users_are_written_first_a_cleared_row_may_be_missed() -> None:
    """A worker that dies between the two writes has cleared the row of the user alone."""

    def differs(seed: int) -> bool:
        world = World(seed, order=(0, 1))
        world.run()
        return world.compare().differences > 0

    assert any(differs(seed) for seed in range(60))
