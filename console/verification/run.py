"""``headrace verify``: compute what is kept again from the raw topics, and compare.

Reads all of `events`, `impressions`, `users`, `items` and `dead-letters`, then the changelogs of the rows,
`examples`, `models` and the online store. Writes nothing. Expected values come from ``headrace.oracle``,
which shares no code with the live system. Live rows are read by the code that serving uses (``live.py``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.console.screen import Reporter
from headrace.console.verification.catalogue_files import snapshot_here
from headrace.console.verification.models_topic import published_models
from headrace.console.verification.partitions import Verification
from headrace.console.verification.raw_topics import read_raw
from headrace.console.verification.result import VerifyResult
from headrace.console.verification.rollout_topic import counted_again, newest_counts
from headrace.console.verification.traces_topic import traces_again
from headrace.oracle.records.frames import use_secret
from headrace.serving.store.opened import open_store
from headrace.streams.messages.ids import use_key
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader
from headrace.streams.topics.refusal import unavailable

#: Roles whose output is compared.
COMPARED = ("ingest", "aggregate", "learn")
#: Longest wait for one answer of the online store. It may be long, because no request waits for it.
STORE_TIMEOUT_S = 10.0


async def verify(
    settings: Settings,
    *,
    at: Sequence[int] = (),
    first: int = 20,
    redis: bool = True,
    report: Reporter = lambda done, text: None,
) -> VerifyResult:
    """Compare all live rows with the values computed from the raw topics.

    Parameters
    ----------
    at
        Times (ms) at which windows are compared; when empty, times around the newest event.
    first
        Number of differences kept; all are counted.
    redis
        Whether the rows in the online store are compared with those in the changelogs.
    report
        Called with the progress.

    Raises
    ------
    UnavailableError
        A topic is missing, or broker or store do not answer.
    """
    began = time.monotonic()
    use_key(settings.id_key)
    use_secret(settings.id_key)
    try:
        result = await _verify(settings, at, first, redis, report)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    result.seconds = round(time.monotonic() - began, 3)
    return result


async def _verify(
    settings: Settings, at: Sequence[int], first: int, redis: bool, report: Reporter
) -> VerifyResult:
    snapshot, why = await snapshot_here(settings)  # first: then `items` has all that it has
    raw, ends = await read_raw(settings, report)
    store = open_store(settings, STORE_TIMEOUT_S, STORE_TIMEOUT_S) if redis else None
    try:
        run = Verification(settings, raw, at, first, store)
        events = {tp.partition: end for tp, end in ends.items() if tp.topic == Topics(settings).events}
        of = 1 + max(events)
        if not any(row.agent == "learn" for row in await lag(settings)):
            run.nobody_learns()
        for number, end in sorted(events.items()):
            await run.users(number, end)
            report(number + 1, f"of {of} partitions of users compared")
        for number in range(of):
            await run.items(number, of)
            report(number + 1, f"of {of} partitions of items compared")
        if snapshot is not None:
            run.catalogue(snapshot)
        if why:
            run.result.notes.append(why)
        versions, learnt, deltas, towers, whole = await published_models(settings)
        run.models(versions, learnt, deltas, towers, whole=whole)
        run.traces(await traces_again(settings))
        for record in await newest_counts(settings):
            run.rollout(record, await counted_again(settings, record))
    finally:
        if store is not None:
            await store.close()
        if snapshot is not None:
            snapshot.close()
    result = run.finish()
    if result.differences:
        result.notes += await _excuses(settings, ends)
    return result


async def _excuses(settings: Settings, ends: Mapping[TopicPartition, int]) -> list[str]:
    """Return notes about differences that are not errors: new records, and records not processed yet."""
    out = []
    async with open_reader(settings, {tp.topic for tp in ends}) as reader:
        _, now = await reader.bounds()
    if any(now[tp] > end for tp, end in ends.items() if tp in now):
        out.append("records arrived meanwhile: compare again when nothing is being produced")
    behind = [r for r in await lag(settings) if r.agent in COMPARED and r.records]
    if behind:
        told = ", ".join(sorted({f"{r.agent} on {r.topic}" for r in behind}))
        records = sum(r.records for r in behind)
        out.append(f"{records:,} records are not processed yet ({told}): that alone makes differences")
    return out
