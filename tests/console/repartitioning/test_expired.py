"""What a user was shown may outlive the row of the user: it is left out when it is old, and else a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fresh_topics import make_topics
from installation import producer, publish, until, worker
from oracle_examples import impression

from headrace.console.repartitioning.job import repartition
from headrace.console.repartitioning.tables import read_table, tables_of
from headrace.streams.clock import now_ms
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.topics.lag import lag
from headrace.streams.topics.murmur2 import partitions_of_keys
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker

ROLES = ["ingest", "aggregate"]
#: Users and how long ago each was shown a list, days.
SHOWN = {"old": 9, "late": 1, **{f"user-{n}": 1 for n in range(6)}}
DAY_S = DAY_MS // 1000


def silent(text: str) -> None:
    """Hear nothing of the progress."""


async def until_counted(settings: Settings) -> None:
    async def behind() -> list[Any]:
        return [r for r in await lag(settings) if r.records and r.agent in ("ingest", "aggregate")]

    await until(behind, lambda rows: not rows, timeout=60)


async def put_row(settings: Settings, user: str, value: bytes | None) -> None:
    """Write the row of a user, as a worker does that changes or deletes it."""
    number = int(partitions_of_keys([user.encode()], settings.partitions)[0])
    record = hash64(user).to_bytes(8, "little"), value, None, ()
    async with producer(settings) as sender:
        await sender.send_many(Topics(settings).user_state, [record], partition=number)


async def rows_in(settings: Settings, table: int) -> dict[int, bytes]:
    """Return the rows of a table by their keys."""
    out: dict[int, bytes] = {}
    for number in range(settings.partitions):
        part = await read_table(settings, tables_of(Topics(settings))[table], number)
        rows = part.packed(part.rows.keys())
        out |= {int(key): bytes(row) for key, row in zip(rows.keys, rows, strict=True)}
    return out


async def test_what_was_shown_to_a_user_without_a_row_is_left_out_when_it_is_old(
    settings: Settings, tmp_path: Path
) -> None:
    changes = {"partitions": 2, "data_dir": tmp_path, "durable_every_ms": 100}
    s, now = settings.model_copy(update=changes), now_ms()
    await make_topics(s)
    async with producer(s) as sender:
        for user, days in SHOWN.items():
            shown = impression(f"of-{user}", ["item-1", "item-2"], now - days * DAY_MS, user=user)
            await publish(sender, Topics(s).impressions, [(user, shown)])
    async with worker(s, ROLES):
        await until_counted(s)
    # Rows of more than this age may expire, and nobody who would let them expire runs any more.
    s = s.model_copy(update={"state_ttl_s": 5 * DAY_S})
    users, lists = await rows_in(s, 0), await rows_in(s, 1)
    assert set(users) == set(lists) == set(map(hash64, SHOWN))

    await put_row(s, "late", None)
    looked = await repartition(s, 4, silent, dry=True)
    (fault,) = looked.faults
    assert fault.startswith("1 rows of what users were shown have no row of their user")
    await put_row(s, "late", users[hash64("late")])

    await put_row(s, "old", None)
    looked = await repartition(s, 4, silent, dry=True)
    assert (looked.faults, looked.expired) == ([], 1)
    done = await repartition(s, 4, silent)
    assert (done.expired, done.new) == (1, 4)
    kept = await rows_in(s.model_copy(update={"partitions": 4}), 1)
    assert kept == {key: row for key, row in lists.items() if key != hash64("old")}
