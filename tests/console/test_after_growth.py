"""After a growth: a topic that is made again is not the log that was cut; a user is forgotten everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fresh_topics import make_topics
from installation import producer, publish, until, worker
from oracle_examples import encode

from headrace.console.forgotten.job import forget, look
from headrace.console.repartitioning.broker import broker_of
from headrace.console.repartitioning.job import repartition
from headrace.console.repartitioning.tables import read_table, rows_of, tables_of
from headrace.console.verification.grown import growths_of
from headrace.console.verification.run import verify
from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import Event, UserProfile
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.topics.grown_log import in_logs_of
from headrace.streams.topics.lag import lag
from headrace.streams.topics.murmur2 import partitions_of_keys
from headrace.streams.topics.names import CLEARS, FORWARDED, Topics
from headrace.streams.topics.reader import open_reader, read_to

pytestmark = pytest.mark.broker

ROLES, USERS, FIRST = ["ingest", "aggregate"], 12, 40
NAMES = [f"user-{n}" for n in range(USERS)]


def clicks(name: str, count: int) -> list[Any]:
    """Clicks of now, of all users by turns."""
    users, now = [NAMES[n % USERS] for n in range(count)], now_ms()
    made = [Event(f"{name}-{n}", "click", user, f"item-{n % 5}", now) for n, user in enumerate(users)]
    return [(e.user_id.encode(), encode(e), now, []) for e in made]


async def send_as_if(settings: Settings, partitions: int, records: Sequence[Any]) -> None:
    """Send events as a producer that believes in some number of partitions."""
    homes = partitions_of_keys([key for key, *_ in records], partitions).tolist()
    async with producer(settings) as sender:
        for home in sorted(set(homes)):
            some = [record for record, at in zip(records, homes, strict=True) if at == home]
            await sender.send_many(Topics(settings).events, some, partition=home)


async def until_counted(settings: Settings) -> None:
    async def behind() -> list[Any]:
        return [r for r in await lag(settings) if r.records and r.agent in ("ingest", "aggregate")]

    await until(behind, lambda rows: not rows, timeout=60)


async def counted(settings: Settings) -> int:
    """Return how many clicks the rows of users have."""
    table, total = tables_of(Topics(settings))[0], 0
    for number in range(settings.partitions):
        part = await read_table(settings, table, number)
        total += sum(int(rows["n_clicks"].sum()) for _, rows in rows_of(part))
    return total


@pytest.fixture
async def grown(settings: Settings, tmp_path: Path) -> Settings:
    """Return an installation that grew from 2 partitions to 4; both old ones were cut after some events."""
    changes = {"partitions": 2, "data_dir": tmp_path, "durable_every_ms": 100, "dedup_window_ms": HOUR_MS}
    old = settings.model_copy(update=changes)
    await make_topics(old)
    await send_as_if(old, 2, clicks("first", FIRST))
    async with producer(old) as sender:
        await publish(sender, Topics(old).users, [(name, UserProfile(name, "NL", 30)) for name in NAMES])
    async with worker(old, ROLES):
        await until_counted(old)
    await repartition(old, 4, lambda text: None)
    s = old.model_copy(update={"partitions": 4})
    async with worker(s, ROLES, within_s=60):
        await until_counted(s)
    (growth,) = (await growths_of(s)).all
    assert min(growth.cuts[Topics(s).events]) > 0
    return s


async def make_events_again(settings: Settings) -> None:
    topic = Topics(settings).events
    async with broker_of(settings) as broker:
        replicas, config = await broker.like(topic, {})
        await broker.remove(topic)
        await broker.make(topic, settings.partitions, replicas, config)


async def kept(settings: Settings) -> Any:
    topic = Topics(settings).events
    async with open_reader(settings, [topic]) as reader:
        return (await in_logs_of(reader, await growths_of(settings))).kept[0][topic]


@pytest.mark.parametrize(
    ("believed", "count"),
    [
        pytest.param(4, 12, id="shorter than before"),
        pytest.param(2, 2 * FIRST, id="past the cut, in the old partitions"),
    ],
)
async def test_events_of_a_topic_that_was_made_again_after_a_growth_are_counted(
    grown: Settings, believed: int, count: int
) -> None:
    assert await kept(grown) == (await growths_of(grown)).all[0].cuts[Topics(grown).events]
    await make_events_again(grown)
    await send_as_if(grown, believed, clicks("again", count))
    assert await kept(grown) == [0, 0]
    async with worker(grown, ROLES, within_s=60):
        await until_counted(grown)
        result = await verify(grown)
    assert await counted(grown) == FIRST + count
    assert (result.differences, result.first, result.accepted) == (0, [], count)


async def test_events_that_were_sent_on_from_a_new_partition_are_found_where_they_came(
    grown: Settings,
) -> None:
    await send_as_if(grown, 3, clicks("wrong", 24))
    async with worker(grown, ROLES, within_s=60):
        await until_counted(grown)
        result = await verify(grown)
    assert await counted(grown) == FIRST + 24
    assert (result.differences, result.first, result.accepted) == (0, [], FIRST + 24)
    assert result.compared["records sent on"] > 0


async def records_of(settings: Settings, user: str) -> list[tuple[int, bool, set[str]]]:
    """Return the partition of each record of a user in `users`, whether it is a null, and its headers."""
    out = []
    async with open_reader(settings, [Topics(settings).users]) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            mine = [record for record in part.records if record.key == user.encode()]
            out += [(part.tp.partition, r.value is None, {name for name, _ in r.headers}) for r in mine]
    return out


async def test_a_user_who_was_moved_is_forgotten_in_the_old_partition_too(grown: Settings) -> None:
    keys = [name.encode() for name in NAMES]
    moved = [name for name, at in zip(NAMES, partitions_of_keys(keys, 4).tolist(), strict=True) if at >= 2]
    gone, back = moved[:2]
    home = {name: int(partitions_of_keys([name.encode()], 4)[0]) for name in (gone, back)}
    assert (await look(grown, gone)).still_there["users"] == 2, "the old one, and the one that was carried"
    for user in (gone, back):
        await forget(grown, user)
    for user in (gone, back):
        assert (await look(grown, user)).still_there["users"] == 0
        await forget(grown, user)
        written = [at for at, null, headers in await records_of(grown, user) if null and CLEARS in headers]
        assert written == [home[user] - 2], "once"
    async with producer(grown) as sender:  # before anybody has read the nulls
        await publish(sender, Topics(grown).users, [(back, UserProfile(back, "BR", 20))])
    async with worker(grown, ROLES, within_s=60):
        await until_counted(grown)
        left = await until(lambda: look(grown, gone), lambda left: left.forgotten)
        result = await verify(grown)
    assert left.still_there["users"] == 0
    assert (await look(grown, back)).still_there["user-state"] == 1, "no null came after the new profile"
    for user in (gone, back):
        assert not any(FORWARDED in headers for _, _, headers in await records_of(grown, user))
    assert (result.differences, result.first) == (0, [])
