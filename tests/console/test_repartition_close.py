"""`headrace repartition` at its point of no return: what was not counted or is not allowed is said before."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, TopicAuthorizationFailedError
from command_line import run_headrace
from fresh_topics import make_topics
from growing import killed_at, no_worker_starts, silent
from installation import producer, until, worker
from oracle_examples import encode, impression

from headrace.console.repartitioning import staging
from headrace.console.repartitioning.broker import OPERATIONS, broker_of, not_allowed
from headrace.console.repartitioning.job import repartition
from headrace.console.repartitioning.plan import NotReadyError
from headrace.console.repartitioning.tables import tables_of
from headrace.console.upgrading import offline
from headrace.console.upgrading.offline import StillRunningError, group_of
from headrace.console.verification.run import verify
from headrace.serving.requests.client import RecClient
from headrace.streams.clock import now_ms
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.schemas import Event, Item, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import check_topics, create_topics
from headrace.streams.topics.growths import staging_of
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker

USERS, ITEMS, OLD, NEW = 6, 5, 2, 4
COUNTING = ["ingest", "aggregate"]


@pytest.fixture
async def empty(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    """An installation without any records."""
    settings: Settings = make_settings(
        partitions=OLD, data_dir=tmp_path, durable_every_ms=100, publish_every_s=0.2, seen_below=0
    )
    await make_topics(settings)
    return settings


@pytest.fixture
async def counted_some(empty: Settings) -> Settings:
    """An installation whose users have clicked; all of it is counted."""
    t = Topics(empty)
    async with producer(empty) as sender:
        items = [Item(f"item-{n}", now_ms(), category=f"c{n % 2}") for n in range(ITEMS)]
        await sender.send_keyed(t.items, [(i.item_id.encode(), encode(i), None, []) for i in items])
        for n in range(3 * USERS):
            event = Event(f"e{n}", "click", f"user-{n % USERS}", f"item-{n % ITEMS}", now_ms())
            await sender.send_keyed(t.events, [(event.user_id.encode(), encode(event), None, [])])
    async with worker(empty, COUNTING, within_s=60):
        await counted(empty)
    return empty


async def counted(settings: Settings) -> None:
    async def behind() -> list[str]:
        return [r.agent for r in await lag(settings) if r.records and r.agent in ("ingest", "aggregate")]

    await until(behind, lambda agents: not agents, timeout=90)


async def no_differences(settings: Settings) -> None:
    async def compared() -> tuple[Any, ...]:
        result = await verify(settings)
        return result.exit_code, result.differences, result.users, result.first, result.notes

    await until(compared, lambda got: got[:3] == (0, 0, USERS), timeout=90)


async def partitions_of(settings: Settings, *names: str) -> list[int | None]:
    async with broker_of(settings) as broker:
        counts = await broker.counts()
    return [counts.get(name) for name in names]


async def grown_and_counted(settings: Settings) -> None:
    assert (await repartition(settings, NEW, silent)).new == NEW
    larger = settings.model_copy(update={"partitions": NEW})
    async with worker(larger, COUNTING, within_s=60):
        await counted(larger)
        await no_differences(larger)


async def test_lists_that_were_shown_after_the_copy_must_be_counted_first(counted_some: Settings) -> None:
    settings = counted_some
    await killed_at(settings, NEW, "all rows are copied")
    async with worker(settings, ["serve"], within_s=60), RecClient(settings, timeout_s=30) as client:
        for n in range(5):
            # One by one: of a user's requests that wait together, only the last one is surely answered.
            for user in range(USERS):
                reply = await client.recommend(RecRequest(f"r{n}-{user}", f"user-{user}", "home", n=3))
                assert reply.items
    with pytest.raises(NotReadyError, match=r"ingest has not read 30 records of .*impressions"):
        await repartition(settings, NEW, silent)
    assert await check_topics(settings) == [], "workers with the old number start"
    async with worker(settings, COUNTING, within_s=60):
        await counted(settings)
    await grown_and_counted(settings)


async def test_no_role_starts_from_the_close_to_the_end(empty: Settings) -> None:
    for last in ("no worker starts", "online store"):
        await killed_at(empty, NEW, last)
        await no_worker_starts(empty, (OLD, NEW))
    await repartition(empty, NEW, silent)
    assert await check_topics(empty.model_copy(update={"partitions": NEW})) == []


async def test_what_is_found_after_the_close_has_a_way_back(counted_some: Settings) -> None:
    settings, t = counted_some, Topics(counted_some)
    await killed_at(settings, NEW, "no worker starts")
    late = impression("late", ["item-1", "item-2"], now_ms(), user="user-1")
    async with producer(settings) as sender:
        await sender.send_keyed(t.impressions, [(b"user-1", encode(late), None, [])])
    with pytest.raises(NotReadyError, match=r"ingest has not read 1 records .* has 4 partitions .* go back"):
        await repartition(settings, NEW, silent)
    # As docs/operator.md says under "Going back".
    async with broker_of(settings) as broker:
        await broker.remove(t.item_events)
        assert await create_topics(settings) == [t.item_events]
        for topic in [name for name in await broker.counts() if name.endswith("-growing")]:
            if topic.startswith(settings.topic_prefix):
                await broker.remove(topic)
    async with worker(settings, COUNTING, within_s=60):
        await counted(settings)
        await no_differences(settings)
    await grown_and_counted(settings)


async def test_what_is_written_after_the_last_look_stops_it_before_anything_goes(
    counted_some: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that looked at the partitions just before the close, joined after it, and has ended."""
    settings, t = counted_some, Topics(counted_some)
    marked = staging.mark

    async def mark_then_write(sender: Any, topics: Topics, key: bytes, ends: Any) -> None:
        await marked(sender, topics, key, ends)
        if key == staging.CLOSED:
            await sender.send_many(t.user_state, [(b"late", b"", None, ())], partition=1)

    with monkeypatch.context() as patch:
        patch.setattr(staging, "mark", mark_then_write)
        with pytest.raises(NotReadyError, match=r"has written since .* has 4 partitions .* go back"):
            await repartition(settings, NEW, silent)
    with pytest.raises(NotReadyError, match="has written since"):
        await repartition(settings, NEW, silent)
    changelogs = [table.topic for table in tables_of(t)]
    assert await partitions_of(settings, *changelogs) == [OLD] * len(changelogs)


@contextmanager
def member_of(settings: Settings, role: str, topic: str) -> Iterator[Callable[[], None]]:
    """Yield a function that joins the group of a role, and returns as a member. It leaves at the end."""
    joined, leave = threading.Event(), threading.Event()

    async def member() -> None:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=settings.brokers, group_id=group_of(settings, role)
        )
        await consumer.start()
        try:
            while not leave.is_set():
                await consumer.getmany(timeout_ms=50)
                if consumer.assignment():
                    joined.set()
        finally:
            await consumer.stop()

    thread = threading.Thread(target=lambda: asyncio.run(member()), daemon=True)

    def join() -> None:
        thread.start()
        assert joined.wait(60)

    try:
        yield join
    finally:
        leave.set()
        if thread.ident:
            thread.join(60)


@pytest.mark.parametrize("after", ["rec-requests has 4", "items-1 carried over"])
async def test_nothing_grows_any_more_when_a_worker_has_come(empty: Settings, after: str) -> None:
    t = Topics(empty)
    with member_of(empty, "log", t.examples) as join:

        def say(text: str) -> None:
            if after in text:
                join()

        with pytest.raises(StillRunningError, match="workers of log"):
            await repartition(empty, NEW, say)
    grown = NEW if "carried" in after else OLD
    assert await partitions_of(empty, t.examples, t.dead_letters) == [grown, OLD]
    assert (await repartition(empty, NEW, silent)).interrupted


@pytest.mark.parametrize(("code", "name"), [(29, "TopicAuthorizationFailedError 29"), (73, "[A-Za-z]+ 73")])
async def test_topics_that_cannot_be_deleted_are_noticed_before_the_close(
    empty: Settings, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    async def refused(self: Any, topics: list[str]) -> Any:
        return SimpleNamespace(topic_error_codes=[(topic, code) for topic in topics])

    t = Topics(empty)
    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaAdminClient, "delete_topics", refused)
        with pytest.raises(UnavailableError, match=rf"-growing cannot be deleted: {name} \(Delete;"):
            await repartition(empty, NEW, silent)
    assert await partitions_of(empty, t.item_events, t.user_state) == [OLD, OLD]
    assert await check_topics(empty) == []
    await repartition(empty, NEW, silent)
    assert await partitions_of(empty, t.user_state, staging_of(t.user_state)) == [NEW, None]


def test_rights_that_are_lacking_are_named() -> None:
    all_of_them = sum(1 << code for code in OPERATIONS.values())
    may = {"a": all_of_them, "b": all_of_them - (1 << OPERATIONS["Delete"])}
    assert not_allowed({"Delete": ["a"], "Alter": ["a", "b"], "DescribeConfigs": ["unknown"]}, may) == []
    (said,) = not_allowed({"Alter": ["b"], "Delete": ["a", "b", "unknown"]}, may)
    assert said.startswith("Delete is not allowed for b: ")


@pytest.mark.parametrize("code", [0, TopicAuthorizationFailedError.errno])
async def test_a_changelog_keeps_the_settings_that_it_needs(
    empty: Settings, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The broker tells no settings of the copies: not as the topic's own, or not at all."""
    plain, t = AIOKafkaAdminClient.describe_configs, Topics(empty)

    async def untold(self: Any, asked: Any, **how: Any) -> Any:
        answers = await plain(self, asked, **how)
        for answer in answers:
            answer.resources = [
                (code, "", *told[2:4], []) if told[3].endswith("-growing") else told
                for told in answer.resources
            ]
        return answers

    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaAdminClient, "describe_configs", untold)
        if code:
            with pytest.raises(UnavailableError, match="-growing cannot be read: TopicAuthorizationFailed"):
                await repartition(empty, NEW, silent)
            assert await partitions_of(empty, t.neighbours, staging_of(t.neighbours)) == [OLD, NEW]
        else:
            await repartition(empty, NEW, silent)
    await repartition(empty, NEW, silent)
    needed = {spec.name: spec.config(empty) for spec in t.specs(empty)}
    async with broker_of(empty) as broker:
        for topic in (t.user_state, t.neighbours):
            _, config = await broker.like(topic, {})
            assert needed[topic].items() <= config.items()


@pytest.mark.parametrize("last", ["no worker starts", "item-neighbours has gone"])
def test_a_look_at_an_interrupted_run_says_that_it_would_go_on(
    empty: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    last: str,
) -> None:
    for name in ("brokers", "redis_url", "topic_prefix", "data_dir", "partitions"):
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", str(getattr(empty, name)))
    told = tmp_path / "told.json"
    look = ("repartition", str(NEW), "--dry-run", "--json", str(told))
    assert run_headrace(monkeypatch, *look) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ready: run it without --dry-run"
    assert not json.loads(told.read_text())["interrupted"]
    asyncio.run(killed_at(empty, NEW, last))
    assert run_headrace(monkeypatch, *look) == 0
    said = capsys.readouterr().out
    assert "this one goes on" not in said
    assert "this one would go on" in said
    assert said.splitlines()[-1] == "go on with it: run it without --dry-run"
    assert json.loads(told.read_text())["interrupted"]
    assert run_headrace(monkeypatch, "repartition", str(NEW)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("ready: start all workers")


async def test_a_broker_that_has_just_started_is_waited_for(
    empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not know its groups yet; one that never does is said."""
    plain, silence = AIOKafkaAdminClient.describe_consumer_groups, 3

    async def not_yet(self: Any, groups: Any, **how: Any) -> Any:
        nonlocal silence
        silence -= 1
        if silence >= 0:
            raise GroupCoordinatorNotAvailableError
        return await plain(self, groups, **how)

    monkeypatch.setattr(AIOKafkaAdminClient, "describe_consumer_groups", not_yet)
    monkeypatch.setattr(offline, "LOOK_S", 0.01)
    await repartition(empty, NEW, silent, dry=True)
    assert silence < 0
    silence = 1_000_000
    monkeypatch.setattr(offline, "PATIENCE_S", 0.05)
    with pytest.raises(UnavailableError, match="GroupCoordinatorNotAvailable"):
        await repartition(empty, NEW, silent, dry=True)
