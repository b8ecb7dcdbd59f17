"""The metrics of running workers, read as Prometheus reads them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from fresh_topics import make_topics
from installation import ITEMS, now_ms, producer, publish, until, worker
from scraped import Scraped, scrape

from headrace.demo.embedded import free_port
from headrace.serving.requests.client import RecClient
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import Event, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender, partition_of

pytestmark = pytest.mark.broker

USER = "user-1"


@pytest.fixture
def measured(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(data_dir=tmp_path, partitions=2, metrics_port=free_port(), durable_every_ms=300)


def event(n: int) -> Event:
    return Event(event_id=f"e{n}", user_id=USER, type="click", ts=now_ms(), item_id=f"item-{n % 60}")


async def send_events(sender: BatchSender, settings: Settings, first: int, count: int) -> None:
    await publish(sender, Topics(settings).events, [(USER, event(n)) for n in range(first, first + count)])


async def test_what_a_worker_reads_is_measured_by_role_agent_topic_and_partition(measured: Settings) -> None:
    """Two roles in one process. Values change with the events; a partition without data is absent."""
    await make_topics(measured)
    topics = Topics(measured)
    full = partition_of(USER.encode(), 2)
    lag = {"role": "ingest", "agent": "track_users", "topic": topics.events}

    def read_all(events: int) -> Callable[[Scraped], bool]:
        return lambda s: (
            s.one("headrace_records_total", **lag) == events
            and s.one("headrace_lag_records", **lag, partition=str(full)) == 0
        )

    async with producer(measured) as sender, worker(measured, ["ingest", "aggregate"]):
        first = await scrape(measured)
        assert first.all("headrace_role_info", version=version("headrace")) == {
            ("aggregate",): 1,
            ("ingest",): 1,
        }
        assert first.one("headrace_records_total", **lag) is None
        assert first.all("headrace_lag_records") == {}
        await send_events(sender, measured, 0, 50)
        await until(lambda: scrape(measured), read_all(50))
        await send_events(sender, measured, 50, 30)
        last = await until(
            lambda: scrape(measured),
            lambda s: (
                read_all(80)(s)
                and s.one("headrace_records_total", role="aggregate")
                and all(s.one("headrace_commit_seconds_count", role=r) for r in ("ingest", "aggregate"))
                and s.one("headrace_redis_seconds_count", call="write")
            ),
        )
    assert last.one("headrace_lag_seconds", **lag, partition=str(full)) == 0
    assert last.one("headrace_lag_records", **lag, partition=str(1 - full)) is None
    assert last.one("headrace_batch_records_sum", agent="track_users", topic=topics.events) == 80
    assert last.one("headrace_batch_seconds_sum", agent="track_users", topic=topics.events) > 0
    assert last.one("headrace_table_rows", table=f"{topics.user_state}", place="memory") == 1
    assert last.all("headrace_reply_seconds_count") == {}
    assert last.one("process_resident_memory_bytes") > 1e7


async def test_what_a_serving_worker_does_is_measured(measured: Settings) -> None:
    await make_topics(measured)
    topics = Topics(measured)
    async with producer(measured) as sender:
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
        async with worker(measured, ["ingest", "aggregate", "serve"]), RecClient(measured, "m") as client:
            await send_events(sender, measured, 0, 20)
            await until(
                lambda: scrape(measured),
                lambda s: (
                    s.one("headrace_source_items_total", source="hot", step="proposed") == 0
                    and s.one("headrace_mirror_rows", mirror="items")
                ),
            )

            async def ask() -> Scraped:
                await client.recommend(RecRequest("r", USER, "home", deadline_ms=5000), 10)
                return await scrape(measured)

            seen = await until(ask, lambda s: s.one("headrace_index_recall_ratio") is not None)
            await sender.send_keyed(topics.requests, [(USER.encode(), b"{bad", None, [])])
            bad = await until(
                lambda: scrape(measured), lambda s: s.one("headrace_dead_letters_total", agent="recommend")
            )
    replies = sum(seen.all("headrace_replies_total", surface="home").values())
    assert replies >= 1
    assert seen.one("headrace_reply_seconds_count", surface="home") == replies
    assert sum(seen.all("headrace_rung_seconds_count").values()) == replies
    assert seen.one("headrace_part_calls_total", kind="source", part="hot") == replies
    assert seen.one("headrace_part_seconds_total", kind="source", part="hot") > 0
    assert seen.one("headrace_source_items_total", source="hot", step="proposed") > 0
    assert seen.one("headrace_index_items") == len(ITEMS)
    assert seen.one("headrace_mirror_rows", mirror="catalogue") == len(ITEMS)
    assert seen.one("headrace_index_recall_ratio") == 1
    assert seen.one("headrace_index_recall_samples_total") == 1
    assert seen.all("headrace_model_info") == {}
    assert bad.all("headrace_dead_letters_total", agent="recommend") == {("no_reply_address",): 1}


async def test_a_held_loop_is_seen(measured: Settings) -> None:
    await make_topics(measured)
    async with worker(measured, ["log"]):
        before = await scrape(measured)
        time.sleep(0.3)  # holds the loop
        await asyncio.sleep(0)
        after = await until(lambda: scrape(measured), lambda s: s.one("headrace_loop_late_seconds_count") > 5)

    def slower(scraped: Scraped, what: str) -> float:
        late = scraped.all(f"headrace_loop_{what}_seconds_bucket")
        return late["+Inf",] - late["0.1",]

    for what in ("late", "held"):
        assert slower(after, what) >= slower(before, what) + 1
    assert (after.one("headrace_loop_cpu_wait_seconds_total") is None) == (
        not Path("/proc/self/schedstat").exists()
    )


async def test_a_port_that_is_taken_is_said(measured: Settings) -> None:
    await make_topics(measured)
    async with worker(measured, ["log"]):
        with pytest.raises(HeadraceError, match=f"METRICS_PORT={measured.metrics_port}.*its own"):
            async with worker(measured, ["log"]):
                pass


async def test_without_a_port_nothing_is_served(measured: Settings) -> None:
    await make_topics(measured)
    async with worker(measured.model_copy(update={"metrics_port": 0}), ["log"]):
        with pytest.raises(ConnectionRefusedError):
            await scrape(measured)
