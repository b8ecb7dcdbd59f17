"""Histories with profiles and forgotten users, for the live code and for the oracle.

The fields of a row that `users` changes are written here by hand, as they are documented: so these tests tell
whether the comparison finds a wrong value, whatever the live code does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl
from oracle_history import Known, Live, records_of, rows_of
from strategies import T0, record

from headrace.console.verification.live import LiveUsers
from headrace.console.verification.live_neighbours import LiveNeighbours
from headrace.models.state import users as user_state
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.hidden import compare_hidden
from headrace.oracle.compare.neighbours import compare_neighbours
from headrace.oracle.compare.profiles import absent_users, compare_marks, compare_profiles
from headrace.oracle.compare.users import compare_users
from headrace.oracle.features.clicks import PartitionPairs
from headrace.oracle.features.since import Stories
from headrace.oracle.features.users import users_of
from headrace.oracle.records.frames import raw_records
from headrace.oracle.records.profiles import read_users
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.settings import DAY_MS, MINUTE_MS

#: Fields that stay when a user is forgotten.
_KEPT = ("key", "offset", "shown_offset", "layout")


def did(user: int, item: int, kind: str = "click", country: str = "", step: int = MINUTE_MS) -> Any:
    """Return an event for ``records_of``: ``step`` ms after the one before it, with an id of its own."""
    return (user, kind, item, step, 0, 0, country, 30, False)


class Story:
    """Events, and records of `users`, in the order in which one worker applied them."""

    def __init__(self) -> None:
        self.live = Live()
        self.users: list[Any] = []
        self._history: list[Any] = []
        self.records: list[Any] = []

    def events(self, *history: Any) -> Story:
        """Apply events."""
        before = len(self._history)
        self._history += history
        self.records = records_of(self._history)
        self.live.events(self.records[before:])
        return self

    def profile(self, user: str, **fields: Any) -> Story:
        """Apply a profile."""
        body = msgspec.json.encode({"user_id": user, **fields})
        row, offset = self._row(user), self._send(user, body)
        data = self.live.users.table.data
        data["has_profile"][row], data["age"][row] = True, fields.get("age", -1)
        data["profile_offset"][row], data["profile_ts"][row] = offset, T0 + offset
        for name, field in (("preferred", "preferred_categories"), ("followed", "followed_creators")):
            keys = hash_many(fields.get(field, []))[: data[name].shape[1]]
            data[name][row] = 0
            data[name][row, : len(keys)] = keys
        data["home"][row] = hash64(fields.get("country", ""))
        data["language"][row] = hash64(fields.get("language", ""))
        return self

    def forget(self, user: str) -> Story:
        """Apply a tombstone."""
        row, offset = self._row(user), self._send(user, None)
        data = self.live.users.table.data
        kept = {name: data[name][row] for name in _KEPT}
        data[row] = user_state.BLANK
        for name, value in kept.items():
            data[name][row] = value
        data["since"][row], data["shown_since"][row] = kept["offset"], kept["shown_offset"]
        data["profile_offset"][row], data["updated"][row] = offset, T0 + offset
        return self

    def refused(self, user: str) -> Story:
        """Add a record of `users` that is not applied."""
        self._send(user, b"{}")
        return self

    def _row(self, user: str) -> int:
        return int(self.live.users.table.take(hash_many([user]))[0])

    def _send(self, user: str, body: bytes | None) -> int:
        offset = len(self.users)
        self.users.append(record(body, key=user.encode(), offset=offset, timestamp=T0 + offset))
        return offset

    def set(self, user: str, field: str, value: Any) -> None:
        """Change a value of a live row."""
        self.live.users.table.data[field][self._row(user)] = value

    def drop(self, user: str) -> None:
        """Delete a live row."""
        self.live.users.table.drop(hash_many([user]))

    def stories(self, *, whole: bool = True, compacted: Sequence[int] = ()) -> Stories:
        """Return what the oracle reads; without the records of `users` at the offsets ``compacted``."""
        left = [r for r in self.users if r.offset not in compacted]
        users = read_users(raw_records("users", 0, left), max_bytes=5000)
        known = Known(self.records, [])
        return Stories.of(known.judged, known.shown, users, whole=whole)

    def compare(self, stories: Stories | None = None, *, now: int = T0 + DAY_MS) -> Findings:
        """Compare users, as a verification does."""
        findings, live = Findings(), LiveUsers(rows_of(self.live.users.table))
        told = self.stories() if stories is None else stories
        told = told.without(absent_users(findings, told, live, now=now, ttl_ms=90 * DAY_MS))
        counted = told.after(live.marks)
        known = users_of(counted.events, counted.shown, told.named)
        attributes = Known([], []).attributes
        rows = compare_users(findings, known, live, attributes, [T0 + DAY_MS])
        compare_hidden(findings, rows, counted.events, live, attributes)
        compare_marks(findings, rows, told, live)
        compare_profiles(findings, rows, counted, live)
        return findings

    def compare_neighbours(self, stories: Stories | None = None) -> Findings:
        """Compare neighbours, as a verification does."""
        told = self.stories() if stories is None else stories
        pairs = PartitionPairs(30 * MINUTE_MS)
        pairs.add(told, LiveUsers(rows_of(self.live.users.table)).marks)
        findings = Findings()
        known = pairs.neighbours().of_partition(0, 1, pairs.unsure)
        names = pl.DataFrame({"item": hash_many([f"item-{i}" for i in range(8)])}).with_columns(
            name=pl.Series([f"item-{i}" for i in range(8)])
        )
        live = LiveNeighbours(rows_of(self.live.neighbours.table))
        compare_neighbours(findings, known, live, names, pairs.unsure)
        return findings


def told(findings: Findings) -> list[tuple[str, str, Any, Any]]:
    """Return the differences: row, feature, expected, found."""
    return [(d.row, d.feature, d.expected, d.found) for d in findings.first]


def fill(row: Any, field: str, by: float) -> None:
    """Add to every value of a field that is not 0."""
    row[field] += np.where(row[field] != 0, by, 0).astype(row[field].dtype)
