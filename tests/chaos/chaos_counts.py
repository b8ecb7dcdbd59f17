"""All-time counts of users and items: what new records add, and what the live rows have. Own arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from chaos_audit import Offsets, every_record

from headrace.console.verification.live_rows import latest_rows
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

#: Table, key of a row, metric -> count.
Counts = Counter[tuple[str, int, str]]


class _Shown(msgspec.Struct):
    user_id: str
    item_ids: list[str]


async def added(settings: Settings, since: Offsets) -> Counts:
    """Return what the records of ``events`` and ``impressions`` from ``since`` on add.

    All events are good. An event that is there more than once counts once.
    """
    topics = Topics(settings)
    out: Counts = Counter()
    seen = set()
    async for _, _, record in every_record(settings, [topics.events], since):
        event = msgspec.json.decode(record.value, type=Event)
        if event.event_id not in seen:
            seen.add(event.event_id)
            _add_event(out, event)
    async for _, _, record in every_record(settings, [topics.impressions], since):
        shown = msgspec.json.decode(record.value, type=_Shown)
        out["user", hash64(shown.user_id), "shown"] += len(shown.item_ids)
        for item_id in shown.item_ids:
            out["item", hash64(item_id), "shown"] += 1
    return out


def _add_event(out: Counts, event: Event) -> None:
    user, item = hash64(event.user_id), hash64(event.item_id)
    out["user", user, event.type] += 1
    seconds = ((event.dwell_ms or 0) + 500) // 1000 if event.type == "dwell" else 0
    if seconds:
        out["user", user, "dwell_s"] += seconds
        out["item", item, "dwell_s"] += seconds
    if event.type in ("click", "skip", "like", "save"):
        out["item", item, "like" if event.type == "save" else event.type] += 1


async def live_counts(settings: Settings) -> Counts:
    """Return the all-time counts of every row of users and items in the changelogs."""
    out: Counts = Counter()
    async for table, counts, rows in _tables(settings):
        keys = rows["key"].tolist()
        for metric in counts.metrics:
            for key, total in zip(keys, counts.totals(rows, metric).tolist(), strict=True):
                if total:
                    out[table, key, metric] = int(total)
    return out


async def _tables(settings: Settings) -> AsyncIterator[tuple[str, Any, Any]]:
    topics = Topics(settings)
    for number in range(settings.partitions):
        users = await latest_rows(settings, topics.user_state, number, user_state.ROW, user_state.ORDER)
        yield "user", user_state.COUNTS, users.table()
        items = await latest_rows(settings, topics.item_features, number, item_state.ROW, ("offset",))
        yield "item", item_state.COUNTS, items.table()


def differences(before: Mapping[Any, int], new: Mapping[Any, int], after: Mapping[Any, int]) -> list[str]:
    """Return a sentence about every count that is not what it was before and what is new."""
    out = []
    for place in sorted(before.keys() | new.keys() | after.keys()):
        expected = before.get(place, 0) + new.get(place, 0)
        found = after.get(place, 0)
        if expected != found:
            table, key, metric = place
            parts = f"{before.get(place, 0)} before, {new.get(place, 0)} new, {found} found"
            out.append(f"{table} {key:016x} {metric}: {parts}")
    return out
