"""A broker loses the ends of logs under running writers, and refuses their next writes: nobody ends by it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, UnknownProducerId
from installation import read_all, until, worker
from join_world import counted, examples, joining, lists, slots_of, user_of, write
from torn_log import Broker, cut_log

from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.serving.requests.replies import ReplySender
from headrace.serving.store.redis import RedisStore
from headrace.streams.clock import now_ms
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.flow import AGENTS
from headrace.streams.topics.lost_ends import again_if_lost, written_again
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender, OutRecord, Written


def test_every_topic_that_an_agent_writes_has_a_way_to_be_written_again() -> None:
    """`examples` are looked up first, replies are written again one by one: all others may be there twice."""
    topics = Topics(Settings())
    written = {getattr(topics, name) for agent in AGENTS for name in agent.writes}
    assert written_again(topics) == written - {topics.examples, topics.replies}
    state = {getattr(topics, name) for agent in AGENTS for name in agent.state}
    assert not state & written_again(topics)


@pytest.mark.parametrize("error", [OutOfOrderSequenceNumber, UnknownProducerId])
async def test_what_is_refused_is_written_again_once_and_only_by_who_may(error: type[KafkaError]) -> None:
    refusals: list[Exception] = []
    tried: list[str] = []

    async def again() -> str:
        tried.append("write")
        if refusals:
            raise refusals.pop()
        return "written"

    refusals[:] = [error()]
    assert (await again_if_lost(again), len(tried)) == ("written", 2)
    refusals[:] = [error(), error()]
    with pytest.raises(error):
        await again_if_lost(again)
    assert (len(tried), refusals) == (4, [])

    def may_not() -> None:
        raise PermissionError

    refusals[:] = [error()]
    with pytest.raises(PermissionError):
        await again_if_lost(again, may_not)
    refusals[:] = [KafkaError()]
    with pytest.raises(KafkaError):
        await again_if_lost(again)
    assert len(tried) == 6


class Writer:
    """Writes to every topic of a worker, as the agents do: one record after the other, each in a batch."""

    def __init__(self, settings: Settings) -> None:
        self.topics = Topics(settings)
        self.partitions = {spec.name: spec.partitions for spec in self.topics.specs(settings)}
        self.sender = BatchSender(settings, written_again(self.topics))
        self.replies = ReplySender(self.sender)

    async def write(self, name: str) -> None:
        """Write one record to every partition of every topic that may have it twice, and replies; at once."""
        value = name.encode()
        await asyncio.gather(
            *(self._of(topic, p, value) for topic in self.again() for p in range(self.partitions[topic])),
            *(self.replies.send(self.topics.replies, p, b"k", value, ()) for p in range(4)),
        )

    def again(self) -> list[str]:
        return sorted(written_again(self.topics))

    async def _of(self, topic: str, partition: int, value: bytes) -> None:
        if topic == self.topics.item_events:
            bounds = np.array([0, len(value)], np.int64)
            await self.sender.send_values(topic, np.frombuffer(value, np.uint8), bounds, partition=partition)
        elif topic == self.topics.users:
            on = self.sender.sent_on()
            on.add_one(b"k", value, now_ms(), [])
            await self.sender.send_on(topic, on, partition=partition)
        else:
            records = ((key, value, None, ()) for key in [b"k"])
            await self.sender.send_many(topic, records, partition=partition)


def ended(kafka: Broker, topic: str, partitions: int, keep: int) -> None:
    for partition in range(partitions):
        assert cut_log(kafka.data, topic, partition, keep) == keep


async def values(settings: Settings, topic: str) -> list[Any]:
    """Return what is in a topic: partition, offset and value, in order."""
    return sorted((r.partition, r.offset, r.value.decode()) for r in await read_all(settings, topic))


@pytest.mark.broker
async def test_every_write_of_a_worker_goes_on_after_all_logs_have_lost_their_ends(lossy, kafka, caplog):
    writer = Writer(lossy)
    topics, ordinary = writer.topics, BatchSender(lossy)
    logs = {topic: writer.partitions[topic] for topic in [*writer.again(), topics.replies]}
    async with writer.sender, ordinary:
        for n in range(6):
            await writer.write(f"before {n}")
            await ordinary.send_many(topics.examples, [(b"k", b"%d" % n, None, ())], partition=0)
        await kafka.kill()
        for topic, partitions in {**logs, topics.examples: 1}.items():
            ended(kafka, topic, partitions, 3)
        await kafka.start()
        with pytest.raises(OutOfOrderSequenceNumber):
            await ordinary.send_many(topics.examples, [(b"k", b"after", None, ())], partition=0)
        await ordinary.send_many(topics.examples, [(b"k", b"again", None, ())], partition=0)
        for n in range(3):
            await writer.write(f"after {n}")
        for topic, partitions in logs.items():
            told = [f"before {n}" for n in range(3)] + [f"after {n}" for n in range(3)]
            expected = [(p, n, text) for p in range(partitions) for n, text in enumerate(told)]
            assert await values(lossy, topic) == expected, topic
        assert [v for *_, v in await values(lossy, topics.examples)] == ["0", "1", "2", "again"]
    assert caplog.text.count("what it refused is written again") == sum(logs.values()) - 4
    assert caplog.text.count("a new producer is used") == 2, "one of each sender"


@pytest.mark.broker
async def test_examples_are_written_once_by_a_worker_that_goes_on(lossy, kafka, caplog):
    settings = lossy.model_copy(update={"outcome_wait_ms": 500})
    topics, users = Topics(settings), [user_of(p, 4) for p in range(4)]
    first = lists(users, 0, 40)
    async with BatchSender(settings, written_again(topics)) as sender, joining(settings):
        for start, end in ((0, 20), (20, 40)):
            await write(sender, topics.impressions, first[start:end])
            await until(
                lambda: examples(settings), lambda e, end=end: counted(e) == slots_of(first[:end]), 60
            )
        await kafka.kill()
        kept = [cut_log(kafka.data, topics.examples, partition, 20) for partition in range(4)]
        assert all(0 < end <= 20 for end in kept)
        await kafka.start()
        left = counted(await examples(settings))
        more = lists(users, 40, 40)
        await write(sender, topics.impressions, more)
        found = await until(lambda: examples(settings), lambda e: counted(e) >= slots_of(more), 60)
    assert left < counted(found) <= slots_of(first + more), "no slot twice"
    assert "the broker has lost the last examples" in caplog.text


def half(kafka: Broker, topic: str, partition: int) -> None:
    """Cut off the newer half of what is in a partition."""
    end = cut_log(kafka.data, topic, partition, 2**31)
    assert cut_log(kafka.data, topic, partition, (end + 1) // 2) < end or not end


def clicks(users: range, n: int) -> list[OutRecord]:
    """Return a click of every user, and what is none."""
    events = [Event(f"e{user}-{n}", "click", f"u{user}", f"i{user % 9}", now_ms()) for user in users]
    good = [(event.user_id.encode(), msgspec.json.encode(event), None, ()) for event in events]
    return [*good, *((key, b"{", None, ()) for key, *_ in good[:8])]


@pytest.mark.broker
@pytest.mark.parametrize(
    "lost",
    [["item_events"], ["dead_letters"], ["item_events", "dead_letters", "user_state", "item_features"]],
    ids=["item events", "dead letters", "all that they write"],
)
async def test_workers_go_on_and_count_everything_once(lossy, kafka, redis_url, caplog, lost):
    mine = lossy.model_copy(update={"redis_url": redis_url})
    topics, store, users = Topics(mine), RedisStore(mine), range(40)
    items = [hash64(f"i{n}") for n in range(9)]

    async def counted() -> int:
        rows = [row for row in await store.get("i", items) if row is not None]
        return int(unpack(rows, item_state.ROW)[0]["totals"].sum())

    async with (
        BatchSender(mine, written_again(topics)) as sender,
        worker(mine, ["ingest", "aggregate"]),
    ):
        for n in range(1, 7):
            await sender.send_keyed(topics.events, clicks(users, n))
            await until(counted, lambda total, n=n: total == n * len(users), 60)
        await kafka.kill()
        for name in lost:
            for partition in range(4):
                half(kafka, getattr(topics, name), partition)
        await kafka.start()
        for n in range(7, 10):
            await sender.send_keyed(topics.events, clicks(users, n))
            await until(counted, lambda total, n=n: total == n * len(users), 90)
        letters = await until(lambda: read_all(mine, topics.dead_letters), lambda found: len(found) >= 24, 30)
    assert {record.value for record in letters} == {b"{"}
    assert await counted() == 9 * len(users), "and no count came twice"
    rows = await saved(mine, topics.user_state)
    assert unpack(rows, user_state.ROW)[0]["n_clicks"].sum() == 9 * len(users)
    # When several are lost, what is refused first is not sure: the others go with the new producer at once.
    said = f" of {getattr(topics, lost[0])}-" if len(lost) == 1 else ""
    assert f"the broker has lost the last records{said}" in caplog.text
    await store.close()


async def saved(settings: Settings, topic: str) -> list[bytes]:
    """Return the rows in a changelog, the last one of each key."""
    rows = {r.key: r.value for r in await read_all(settings, topic) if len(r.key) == 8 and r.value}
    return list(rows.values())


@pytest.mark.broker
@pytest.mark.parametrize("framed", [False, True], ids=["records", "batches"])
async def test_only_what_was_refused_is_written_again(topics_made, framed):
    """A part of a call was taken: it is not there twice, and the rest keeps its order."""
    topic = Topics(topics_made).item_events
    async with BatchSender(topics_made, written_again(Topics(topics_made))) as sender:
        first, sent = sender.producer, []

        async def send(batch: Any, *place: Any, **options: Any) -> Any:
            sent.append(batch.record_count())
            if len(sent) < 2:
                return await AIOKafkaProducer.send_batch(first, batch, *place, **options)
            lost = asyncio.get_running_loop().create_future()
            lost.set_exception(OutOfOrderSequenceNumber())
            return lost

        first.send_batch = send
        texts = [b"%05d" % n + b"x" * 99_995 for n in range(12)]
        if framed:
            bounds = np.arange(0, 12 * 100_000 + 1, 100_000, dtype=np.int64)
            written = await sender.send_values(
                topic, np.frombuffer(b"".join(texts), np.uint8), bounds, partition=1
            )
        else:
            written = await sender.send_many(topic, ((None, t, None, ()) for t in texts), partition=1)
        assert (sum(sent), len(sent), sender.producer is first) == (12, 3, False)
    assert written == Written(-1, -1)
    assert [value for *_, value in await values(topics_made, topic)] == [t.decode() for t in texts]
