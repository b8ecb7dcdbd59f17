"""`headrace repartition` of an installation: no count is lost, none is counted twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh_topics import make_topics
from growing import killed_at, no_worker_starts, silent
from installation import producer, until, worker
from oracle_examples import encode, event, impression

from headrace.console.imported.jobs import Job, Jobs
from headrace.console.repartitioning.broker import broker_of
from headrace.console.repartitioning.job import Repartitioned, repartition
from headrace.console.repartitioning.plan import NotReadyError
from headrace.console.upgrading.offline import StillRunningError
from headrace.console.verification.grown import growths_of
from headrace.console.verification.result import VerifyResult
from headrace.console.verification.run import verify
from headrace.serving.requests.client import RecClient
from headrace.streams.clock import now_ms
from headrace.streams.errors import ConfigError, HeadraceError
from headrace.streams.messages.schemas import Context, Event, Item, RecReply, RecRequest, UserProfile
from headrace.streams.settings import DAY_MS, HOUR_MS, Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.lag import lag
from headrace.streams.topics.murmur2 import partitions_of_keys
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

USERS, ITEMS, LISTS = 24, 20, 60
#: The time between two lists, ms.
STEP = 30_000
ROLES = ["ingest", "aggregate", "learn", "log", "serve"]


def history(began: int) -> tuple[list[Any], list[Any]]:
    """Lists of five items, and what their users did with some slots: all of half an hour."""
    rng = np.random.default_rng(5)
    shown, did = [], []
    for i in range(LISTS):
        user, at = f"user-{i % USERS}", began + i * STEP
        items = [f"item-{k}" for k in rng.choice(ITEMS, 5, replace=False)]
        shown.append((user.encode(), encode(impression(f"r{i}", items, at, user=user)), at, []))
        for k, kind in enumerate(("click", "click", "like")[: int(rng.integers(4))]):
            e = event(kind, items[k], at + 1000 * (k + 1), request=f"r{i}", user=user)
            e.context = Context(country=("BR", "NL")[i % 2], age=(None, 17, 40)[i % 3])
            did.append((user.encode(), encode(e), e.ts + 10, []))
    return shown, did


def acts(name: str, count: int) -> list[tuple[bytes, bytes, int, list[Any]]]:
    """Clicks and likes of now; those with one name have the same ids whenever they are made."""
    now = now_ms()
    return [
        (
            f"user-{n % USERS}".encode(),
            encode(
                Event(f"{name}-{n}", ("click", "like")[n % 2], f"user-{n % USERS}", f"item-{n % ITEMS}", now)
            ),
            now,
            [],
        )
        for n in range(count)
    ]


async def send_as_if(sender: BatchSender, topic: str, partitions: int, records: Sequence[Any]) -> None:
    """Send records as a producer that believes in another number of partitions."""
    homes = partitions_of_keys([key for key, *_ in records], partitions).tolist()
    for record, home in zip(records, homes, strict=True):
        await sender.send_many(topic, [record], partition=home)


@pytest.fixture
async def installation(settings: Settings, tmp_path: Path) -> AsyncIterator[tuple[Settings, BatchSender]]:
    changes = {"partitions": 4, "data_dir": tmp_path, "durable_every_ms": 100, "publish_every_s": 0.2}
    s = settings.model_copy(
        update={
            **changes,
            "seen_below": 0,
            "outcome_wait_ms": 1000,
            "dedup_window_ms": HOUR_MS,
            "passed_wait_ms": 500,
        }
    )
    began, t, sender = now_ms() - HOUR_MS, Topics(s), BatchSender(s)
    await make_topics(s)
    await sender.start()
    catalog = [
        Item(f"item-{i}", began, category=f"category-{i % 5}", creator_id=f"c{i % 3}") for i in range(ITEMS)
    ]
    await sender.send_keyed(t.items, [(i.item_id.encode(), encode(i), began - DAY_MS, []) for i in catalog])
    profiles = [UserProfile(f"user-{u}", "NL", 30 + u) for u in range(8)]
    await sender.send_keyed(t.users, [(p.user_id.encode(), encode(p), None, []) for p in profiles])
    shown, did = history(began)
    await sender.send_keyed(t.impressions, shown)
    await sender.send_keyed(t.events, did)
    yield s, sender
    await sender.stop()


async def drained(settings: Settings) -> None:
    async def behind() -> list[Any]:
        return [r for r in await lag(settings) if r.records]

    await until(behind, lambda rows: not rows, timeout=90)


async def until_equal(settings: Settings, timeout: float = 90) -> VerifyResult:
    deadline = time.monotonic() + timeout
    while True:
        result = await verify(settings)
        if result.exit_code == 0 or time.monotonic() > deadline:
            return result
        await asyncio.sleep(0.5)


async def ask(settings: Settings, user: str) -> RecReply:
    """Return the first list of a user that is made from its rows: they are in Redis, and new."""
    async with RecClient(settings, timeout_s=30) as client:

        async def asked() -> RecReply:
            return await client.recommend(RecRequest(f"of-{user}-{now_ms()}", user, "home", n=ITEMS))

        reply: RecReply = await until(
            asked, lambda r: not {"user", "shown", "neighbours"} & set(r.degraded), timeout=60
        )
        return reply


async def grown(settings: Settings, new: int, kills: Sequence[str]) -> Repartitioned:
    """Make the partitions more; each run but the last one ends when it has said something."""
    for last in kills:
        await killed_at(settings, new, last)
        if "no worker starts" in last:
            await no_worker_starts(settings, (settings.partitions, new))
    if kills:
        await no_worker_starts(settings, (settings.partitions, new))
    return await repartition(settings, new, silent)


#: What each run says last before it is killed.
KILLS = (
    "user-state-1 read", "item-features-2 copied", "all rows are copied", "no worker starts",
    "item-neighbours has gone", "item-neighbours-3 made", "item-countries has gone", "shown-state-7 made",
    "user-state has gone", "user-state-5 made", "-events has 8", "-items has 8", "users-1 carried",
    "items-0 carried", "online store",
)  # fmt: skip


@pytest.mark.parametrize("kills", [(), KILLS])
async def test_partitions_grow_and_every_count_is_kept(
    installation: tuple[Settings, BatchSender], kills: Sequence[str]
) -> None:
    settings, sender = installation
    t = Topics(settings)
    # An odd number: such a user does nothing else with an item of an even one.
    moved = next(f"user-{n}" for n in range(1, USERS, 2) if partitions_of_keys([b"user-%d" % n], 8)[0] >= 4)
    async with worker(settings, ROLES):
        await sender.send_keyed(t.events, acts("recent", 100))
        await sender.send_keyed(t.events, acts("recent", 30))
        hide = Event("hide", "hide", moved, "item-8", now_ms())
        await sender.send_keyed(t.events, [(moved.encode(), encode(hide), None, [])])
        await sender.send_keyed(t.users, [(b"user-9", None, None, [])])
        await drained(settings)
        before = await ask(settings, moved)
        await drained(settings)
        with pytest.raises(StillRunningError, match="ingest"):
            await repartition(settings, 8, silent)
    assert "item-8" not in {item.item_id for item in before.items}
    # Producers go on: these lie in the old partitions, and nobody has read them.
    await sender.send_keyed(t.events, acts("waiting", 60))
    await sender.send_keyed(t.events, acts("recent", 20))
    for wrong in (6, 2):
        with pytest.raises(ConfigError):
            await repartition(settings, wrong, silent)
    looked = await repartition(settings, 8, silent, dry=True)
    assert looked.faults == []
    assert looked.rows[t.user_state] == looked.rows[t.shown_state] == USERS
    assert 0 < looked.moving[t.user_state] < USERS
    assert 0 < looked.moving[t.item_features] < ITEMS == looked.rows[t.item_features]

    done = await grown(settings, 8, kills)
    assert (done.old, done.new) == (4, 8)
    assert 0 < done.carried[t.items] < ITEMS or kills
    assert (await repartition(settings, 8, silent)).old == 8, "nothing is left to do"
    with pytest.raises(HeadraceError, match="partitions"):
        async with worker(settings, ["ingest"]):
            pass

    larger = settings.model_copy(update={"partitions": 8})
    await send_as_if(sender, t.events, 4, acts("recent", 40) + acts("stale", 40))
    async with producer(larger) as fresh:
        await fresh.send_keyed(t.events, acts("new", 60) + acts("recent", 100) + acts("stale", 40))
        async with worker(larger, ROLES, within_s=60):
            await drained(larger)
            after = await ask(larger, moved)
            await drained(larger)
            result = await until_equal(larger)
    assert (result.differences, result.first) == (0, []), result.notes
    assert result.not_compared == 0 or not result.covered_from
    _, did = history(0)
    sent = {body for _, body, *_ in did}
    assert result.accepted == len(sent) + 100 + 1 + 60 + 40 + 60
    assert result.users == USERS
    assert result.items == ITEMS
    assert result.compared["rows of what users were shown"] == USERS
    assert result.compared["records sent on"] > 20
    assert "item-8" not in {item.item_id for item in after.items}
    assert len(after.items) >= 10


async def test_partitions_grow_again(installation: tuple[Settings, BatchSender]) -> None:
    """A partition has parents of parents then: what they have counted is known, duplicates too."""
    settings, sender = installation
    t, roles, ids = Topics(settings), ["ingest", "aggregate"], 0
    await sender.send_keyed(t.events, acts("first", 40))
    for partitions in (4, 8):
        now = settings.model_copy(update={"partitions": partitions})
        async with producer(now) as fresh:
            await fresh.send_keyed(t.events, acts(f"of-{partitions}", 40) + acts("first", 40))
            ids += 40
        async with worker(now, roles, within_s=60):
            await until_counted(now)
        await repartition(now, partitions * 2, silent)
        await send_as_if(sender, t.events, 4, acts("first", 40) + acts(f"of-{partitions}", 40))
    now = settings.model_copy(update={"partitions": 16})
    async with worker(now, roles, within_s=60):
        await until_counted(now)
        result = await until_equal(now)
    assert (result.differences, result.first) == (0, []), result.notes
    assert result.accepted == len({body for _, body, *_ in history(0)[1]}) + 40 + ids


async def until_counted(settings: Settings) -> None:
    async def behind() -> list[Any]:
        return [r for r in await lag(settings) if r.records and r.agent in ("ingest", "aggregate")]

    await until(behind, lambda rows: not rows, timeout=90)


async def test_what_is_not_counted_yet_is_said_and_nothing_is_changed(
    installation: tuple[Settings, BatchSender],
) -> None:
    settings, sender = installation
    t = Topics(settings)
    async with worker(settings, ["ingest"]):

        async def behind() -> list[Any]:
            return [r for r in await lag(settings) if r.records and r.agent == "ingest"]

        await until(behind, lambda rows: not rows, timeout=60)
    with pytest.raises(NotReadyError, match=r"aggregate has not read [\d,]+ records of .*item-events"):
        await repartition(settings, 8, silent)
    shown = impression("later", ["item-1"], now_ms(), user="user-1")
    await sender.send_keyed(t.impressions, [(b"user-1", encode(shown), None, [])])
    looked = await repartition(settings, 8, silent, dry=True)
    assert [fault.split(" has not")[0] for fault in looked.faults] == ["ingest", "aggregate"]
    Jobs(settings).write(Job("a", {"1": "old.parquet"}, "", 0, state="sending"))
    looked = await repartition(settings, 8, silent, dry=True)
    assert "an import of old.parquet runs, or was cut off" in "; ".join(looked.faults)
    refusing = settings.model_copy(update={"wrong_partition": "refuse"})
    with pytest.raises(NotReadyError, match="HEADRACE_WRONG_PARTITION"):
        await repartition(refusing, 8, silent)
    async with broker_of(settings) as broker:
        counts = await broker.counts()
    assert {counts[spec.name] for spec in t.specs(settings) if spec.partitions > 1} == {4}
    assert not [
        name for name in counts if name.endswith("-growing") and name.startswith(settings.topic_prefix)
    ]
    async with worker(settings, ["ingest", "aggregate"]):
        await until_counted(settings)
    Jobs(settings).write(Job("a", {"1": "old.parquet"}, "", 0, state="done"))
    assert (await repartition(settings, 8, silent)).new == 8


async def test_no_changelog_is_made_anew_of_copies_that_are_not_complete(
    settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"partitions": 2, "data_dir": tmp_path})
    await make_topics(settings)
    t = Topics(settings)

    await killed_at(settings, 4, "item-features-1 copied")
    async with broker_of(settings) as broker:
        await broker.remove(t.neighbours)
        with pytest.raises(NotReadyError, match="no complete copy"):
            await repartition(settings, 4, silent)
        assert (await broker.counts())[t.user_state] == 2
        await broker.make(t.neighbours, 2, 1, {"cleanup.policy": "compact"})
    await killed_at(settings, 4, "item-neighbours has gone")
    await create_topics(settings)  # as the message of a worker says; the copy is still what counts
    await repartition(settings, 4, silent)
    async with broker_of(settings) as broker:
        _, config = await broker.like(t.neighbours, {})
        assert {(await broker.counts())[table] for table in (t.neighbours, t.user_state, t.events)} == {4}
    assert config["cleanup.policy"] == "compact"
    assert (await growths_of(settings)).all[-1].new == 4
