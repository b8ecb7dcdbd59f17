"""``headrace verify``: compute every windowed feature anew from the raw topics; live rows must say the same.

Reads `events`, `impressions`, `users`, `items` whole, then the changelogs of the rows and the online store;
writes nothing. The oracle (oracle/features.py) shares no code with the live system; the rows are read by the
code that serving reads them with. Partition by partition, so that the rows of one are in memory at a time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.console.screen import Reporter
from headrace.console.verification.topics import Latest, Raw, latest_rows, read_raw
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.oracle import features as oracle
from headrace.oracle.compare import compare_items, compare_users
from headrace.oracle.findings import Aligned, Difference, Findings
from headrace.serving.store.protocol import Kind
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS, Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader

#: Rows asked of the online store at once.
STORE_CHUNK = 500
#: One answer of the online store may take this long: no request waits for it.
STORE_TIMEOUT_S = 10.0


@dataclass
class VerifyResult:
    """What a verification found. The fields are the keys of the JSON."""

    users: int = 0
    items: int = 0
    countries: int = 0
    values_compared: int = 0
    differences: int = 0
    rows_that_differ: int = 0
    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejected_by: dict[str, int] = field(default_factory=dict)
    impressions: int = 0
    not_compared: int = 0
    forgotten: int = 0
    redis_rows: int = 0
    at: list[int] = field(default_factory=list)
    covered_from: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 nothing differs, 1 something does, 2 there was nothing to compare."""
        return 1 if self.differences else 0 if self.values_compared else 2

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return asdict(self)


def times_to_ask(newest: int) -> list[int]:
    """Return the times windows are compared at: around the newest act, and when windows begin to run empty.

    Earlier ones are exact for rows whose newest act is not much later, so they are asked about too.
    """
    steps = (-DAY_MS, -HOUR_MS, -oracle.AHEAD_MS, 0, 7 * MINUTE_MS, 5 * HOUR_MS, 3 * DAY_MS)
    return [newest + step for step in steps if newest + step >= 0]


class Verification:
    """One run over all partitions: holds what is known and collects what was found."""

    def __init__(
        self, settings: Settings, raw: Raw, at: Sequence[int], first: int, store: RedisStore | None
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings)
        self._raw = raw
        self._store = store
        self._findings = Findings(first)
        judged = oracle.judge(raw.events, settings.dedup_window_ms)
        self._events = oracle.accepted(judged)
        self._attributes = oracle.attributes(raw.items)
        self._forgotten = raw.forgotten.select("user", "user_id").unique("user")
        self._everywhere, self._by_country = oracle.items(self._events, raw.shown)
        newest = pl.concat([self._events["ts"], raw.shown["ts"].drop_nulls()]).max()
        now = int(str(newest)) if newest is not None else time.time_ns() // 1_000_000
        self.outcome = self._begin(judged, list(at) or times_to_ask(now))

    def _begin(self, judged: pl.DataFrame, at: list[int]) -> VerifyResult:
        verdicts = dict(judged.group_by("verdict").len().iter_rows())
        accepted, duplicates = verdicts.pop("", 0), verdicts.pop("duplicate", 0)
        out = VerifyResult(
            events=len(judged),
            accepted=accepted,
            duplicates=duplicates,
            rejected=sum(verdicts.values()),
            rejected_by=dict(sorted(verdicts.items())),
            impressions=len(self._raw.shown.filter(pl.col("verdict") == "")),
            forgotten=len(self._forgotten),
            at=at,
            covered_from=self._raw.covered_from,
        )
        if self._raw.covered_from:
            out.notes.append(
                "the broker has deleted the beginning of `events` or `impressions`: totals, decayed counts "
                "and histories are not compared, windows only where all of their time is there"
            )
        if not self._raw.items_whole:
            out.notes.append(
                "`items` was compacted, so earlier attributes of an item are not known: affinities of users "
                "are not compared"
            )
        return out

    async def partition(self, number: int, of: int) -> None:
        """Compare the rows of one partition out of ``of``."""
        await self._users(number)
        await self._items(number, of)

    async def _users(self, number: int) -> None:
        mine = pl.col("partition") == number
        known = oracle.users(self._events.filter(mine), self._raw.shown.filter(mine), self._forgotten)
        latest = await latest_rows(
            self._settings, self._topics.user_state, number, user_state.ROW, ("offset", "shown_offset")
        )
        table = latest.table()
        rows = compare_users(
            self._findings,
            known,
            table[~np.isin(table["key"], self._forgotten["user"].to_numpy())],
            self._attributes,
            self.outcome.at,
            covered_from=self._raw.covered_from,
            complete=self._raw.items_whole,
        )
        self.outcome.users += len(rows)
        self._refused(latest, self._topics.user_state, number)
        gone = dict(self._raw.forgotten.filter(mine).select("user", "user_id").iter_rows())
        await self._redis("u", rows, latest.rows, gone, self._settings.user_ttl_s)

    async def _items(self, number: int, of: int) -> None:
        for topic, known, countries in (
            (self._topics.item_features, self._everywhere, False),
            (self._topics.item_countries, self._by_country, True),
        ):
            latest = await latest_rows(self._settings, topic, number, item_state.ROW, ("offset",))
            rows = compare_items(
                self._findings,
                known.of_partition(number, of),
                latest.table(),
                self.outcome.at,
                countries=countries,
                covered_from=self._raw.covered_from,
            )
            self._refused(latest, topic, number)
            if countries:
                self.outcome.countries += len(rows)
            else:
                self.outcome.items += len(rows)
                await self._redis("i", rows, latest.rows, {}, self._settings.item_ttl_s)

    def _refused(self, latest: Latest, topic: str, number: int) -> None:
        if latest.refused:
            self.outcome.notes.append(
                f"{latest.refused} records of {topic}-{number} are not rows of this version: passed over"
            )

    async def _redis(
        self, kind: Kind, rows: Aligned, packed: Mapping[int, bytes], gone: Mapping[int, str], ttl_s: int
    ) -> None:
        """Compare the online store's rows with the changelog's, byte by byte; those ``gone`` may lack."""
        if self._store is None:
            return
        names = {**dict(zip(rows.keys.tolist(), rows.names, strict=True)), **gone}
        expired = time.time_ns() // 1_000_000 - ttl_s * 1000
        keys = [*packed, *sorted(gone.keys() - packed.keys())]
        dtype = user_state.ROW if kind == "u" else item_state.ROW
        for start in range(0, len(keys), STORE_CHUNK):
            chunk = keys[start : start + STORE_CHUNK]
            stored = await self._store.get(kind, chunk)
            wrong = [
                (key, found)
                for key, found in zip(chunk, stored, strict=True)
                if found != packed.get(key)
                and not (found is None and (key in gone or _updated(packed[key], dtype) < expired))
            ]
            self._findings.compared += len(chunk)

            def make(k: int, wrong: list[tuple[int, bytes | None]] = wrong) -> Difference:
                key, found = wrong[k]
                told = f"{key:016x}"
                return Difference(
                    f"{rows.kind} {names.get(key) or told}",
                    told,
                    "row in Redis",
                    None,
                    _told(packed.get(key), dtype),
                    _told(found, dtype),
                )

            self._findings.add(rows.kind, np.array([key for key, _ in wrong], np.uint64), make)
        self.outcome.redis_rows += len(keys)

    def finish(self) -> VerifyResult:
        """Put the figures together."""
        f, out = self._findings, self.outcome
        out.values_compared, out.differences, out.not_compared = f.compared, f.differences, f.not_compared
        out.rows_that_differ = f.rows
        out.first = f.first_as_dicts()
        return out


def _updated(row: bytes, dtype: np.dtype[Any]) -> int:
    return _field(row, dtype, "updated")


def _field(row: bytes, dtype: np.dtype[Any], name: str) -> int:
    return int(unpack([row], dtype)[0][name][0])


def _told(row: bytes | None, dtype: np.dtype[Any]) -> str:
    """Describe a packed row in a few words: rows that differ do so in their offset more often than not."""
    if row is None:
        return "no row"
    if not unpack([row], dtype)[1][0]:
        return f"{len(row)} bytes that are no row"
    return f"offset {_field(row, dtype, 'offset')}, updated {_field(row, dtype, 'updated')}"


async def verify(
    settings: Settings,
    *,
    at: Sequence[int] = (),
    first: int = 20,
    redis: bool = True,
    report: Reporter = lambda done, text: None,
) -> VerifyResult:
    """Compare all live rows with what the raw topics say.

    Parameters
    ----------
    at
        Times (ms) windows are compared at; some around the newest event when empty.
    first
        So many differences are kept; all are counted.
    redis
        Whether the online store's rows are compared with the changelogs'.
    report
        Told how far it is.

    Raises
    ------
    UnavailableError
        When it cannot be told: a topic is missing, broker or store do not answer.
    """
    began = time.monotonic()
    try:
        outcome = await _verify(settings, at, first, redis, report)
    except KafkaError as exc:
        raise UnavailableError(f"no Kafka broker answers at {settings.brokers}: {exc}") from exc
    outcome.seconds = round(time.monotonic() - began, 3)
    return outcome


async def _verify(
    settings: Settings, at: Sequence[int], first: int, redis: bool, report: Reporter
) -> VerifyResult:
    raw, ends = await read_raw(settings, report)
    store = RedisStore(settings, STORE_TIMEOUT_S, STORE_TIMEOUT_S) if redis else None
    try:
        run = Verification(settings, raw, at, first, store)
        of = 1 + max(tp.partition for tp in ends if tp.topic == Topics(settings).events)
        for number in range(of):
            await run.partition(number, of)
            report(number + 1, f"of {of} partitions compared")
    finally:
        if store is not None:
            await store.close()
    outcome = run.finish()
    if outcome.differences:
        outcome.notes += await _excuses(settings, ends)
    return outcome


async def _excuses(settings: Settings, ends: Mapping[TopicPartition, int]) -> list[str]:
    """Return what may have made the differences other than a fault: work that is not done yet."""
    out = []
    async with open_reader(settings, {tp.topic for tp in ends}) as reader:
        _, now = await reader.bounds()
    if any(now[tp] > end for tp, end in ends.items() if tp in now):
        out.append("records arrived meanwhile: compare again when nothing is being produced")
    behind = [r for r in await lag(settings) if r.agent in ("ingest", "aggregate") and r.records]
    if behind:
        told = ", ".join(sorted({f"{r.agent} on {r.topic}" for r in behind}))
        records = sum(r.records for r in behind)
        out.append(f"{records:,} records are not processed yet ({told}): that alone makes differences")
    return out
