"""The comparison, partition by partition: only the rows of one partition are in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from headrace.console.verification.live import LiveItems, LiveUsers
from headrace.console.verification.live_rows import Latest, latest_rows
from headrace.console.verification.raw_topics import Raw
from headrace.console.verification.redis_rows import compare_stored
from headrace.console.verification.result import VerifyResult
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.oracle.compare.aligned import Aligned
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.items import compare_items
from headrace.oracle.compare.users import compare_users
from headrace.oracle.features.affinities import item_attributes
from headrace.oracle.features.items import Items, items_of
from headrace.oracle.features.judge import accepted, judge
from headrace.oracle.features.users import users_of
from headrace.oracle.features.windows import AHEAD_MS
from headrace.serving.store.protocol import Kind
from headrace.serving.store.redis import RedisStore
from headrace.streams.clock import now_ms
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS, Settings
from headrace.streams.topics.names import Topics


def times_to_ask(newest: int) -> list[int]:
    """Return the times (ms) at which windows are compared: before, at and after the newest act.

    At later times windows become empty. At earlier times windows are exact only for rows whose newest act is
    not much later.
    """
    steps = (-DAY_MS, -HOUR_MS, -AHEAD_MS, 0, 7 * MINUTE_MS, 5 * HOUR_MS, 3 * DAY_MS)
    return [newest + step for step in steps if newest + step >= 0]


class Verification:
    """One run over all partitions: keeps the oracle's values and collects the differences.

    Parameters
    ----------
    raw
        The raw topics.
    at
        Times (ms) at which windows are compared; ``times_to_ask`` when empty.
    first
        Number of differences kept.
    store
        The online store whose rows are compared with the changelogs; None: no comparison.

    Attributes
    ----------
    result
        The figures so far; complete after ``finish``.
    """

    def __init__(
        self, settings: Settings, raw: Raw, at: Sequence[int], first: int, store: RedisStore | None
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings)
        self._raw = raw
        self._store = store
        self._findings = Findings(first)
        judged = judge(raw.events, settings.dedup_window_ms)
        self._events = accepted(judged)
        self._attributes = item_attributes(raw.items)
        self._forgotten = raw.forgotten.select("user", "user_id").unique("user")
        self._everywhere, self._by_country = items_of(self._events, raw.shown)
        newest = pl.concat([self._events["ts"], raw.shown["ts"].drop_nulls()]).max()
        now = int(str(newest)) if newest is not None else now_ms()
        self.result = self._begin(judged, list(at) or times_to_ask(now))

    def _begin(self, judged: pl.DataFrame, at: list[int]) -> VerifyResult:
        verdicts = dict(judged.group_by("verdict").len().iter_rows())
        n_accepted, duplicates = verdicts.pop("", 0), verdicts.pop("duplicate", 0)
        return VerifyResult(
            events=len(judged),
            accepted=n_accepted,
            duplicates=duplicates,
            rejected=sum(verdicts.values()),
            rejected_by=dict(sorted(verdicts.items())),
            impressions=len(self._raw.shown.filter(pl.col("verdict") == "")),
            forgotten=len(self._forgotten),
            at=at,
            covered_from=self._raw.covered_from,
            notes=_missing(self._raw),
        )

    async def partition(self, number: int, of: int) -> None:
        """Compare the rows of one partition out of ``of``."""
        await self._users(number)
        await self._items(number, of, self._topics.item_features, self._everywhere, by_country=False)
        await self._items(number, of, self._topics.item_countries, self._by_country, by_country=True)

    async def _users(self, number: int) -> None:
        mine = pl.col("partition") == number
        topic = self._topics.user_state
        latest = await latest_rows(self._settings, topic, number, user_state.ROW, ("offset", "shown_offset"))
        table = latest.table()
        rows = compare_users(
            self._findings,
            users_of(self._events.filter(mine), self._raw.shown.filter(mine), self._forgotten),
            LiveUsers(table[~np.isin(table["key"], self._forgotten["user"].to_numpy())]),
            self._attributes,
            self.result.at,
            covered_from=self._raw.covered_from,
            complete=self._raw.items_whole,
        )
        self.result.users += len(rows)
        self._note_refused(latest, topic, number)
        forgotten = dict(self._raw.forgotten.filter(mine).select("user", "user_id").iter_rows())
        await self._redis("u", rows, latest.rows, forgotten, self._settings.user_ttl_s)

    async def _items(self, number: int, of: int, topic: str, known: Items, *, by_country: bool) -> None:
        latest = await latest_rows(self._settings, topic, number, item_state.ROW, ("offset",))
        rows = compare_items(
            self._findings,
            known.of_partition(number, of),
            LiveItems(latest.table(), by_country=by_country),
            self.result.at,
            covered_from=self._raw.covered_from,
        )
        self._note_refused(latest, topic, number)
        if by_country:
            self.result.countries += len(rows)
        else:
            self.result.items += len(rows)
            await self._redis("i", rows, latest.rows, {}, self._settings.item_ttl_s)

    def _note_refused(self, latest: Latest, topic: str, number: int) -> None:
        if latest.refused:
            self.result.notes.append(
                f"{latest.refused} records of {topic}-{number} are not rows of this version: passed over"
            )

    async def _redis(
        self, kind: Kind, rows: Aligned, packed: Mapping[int, bytes], forgotten: Mapping[int, str], ttl_s: int
    ) -> None:
        if self._store is not None:
            self.result.redis_rows += await compare_stored(
                self._findings, self._store, kind, rows, packed, forgotten=forgotten, ttl_s=ttl_s
            )

    def finish(self) -> VerifyResult:
        """Return the complete figures."""
        f, out = self._findings, self.result
        out.values_compared, out.differences, out.not_compared = f.compared, f.differences, f.not_compared
        out.rows_that_differ = f.rows
        out.first = f.first_as_dicts()
        return out


def _missing(raw: Raw) -> list[str]:
    """Return notes about what cannot be compared because the topics no longer hold all records."""
    notes = []
    if raw.covered_from:
        notes.append(
            "the broker has deleted the beginning of `events` or `impressions`: totals, decayed counts "
            "and histories are not compared, windows only where all of their time is there"
        )
    if not raw.items_whole:
        notes.append(
            "`items` was compacted, so earlier attributes of an item are not known: affinities of users "
            "are not compared"
        )
    return notes
