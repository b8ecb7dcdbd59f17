"""A state store and a broker: reads and writes, late writers, the lease, eviction, Faust tables beside it."""

from __future__ import annotations

import pytest
from aiokafka.errors import OutOfOrderSequenceNumber
from counting_worker import ROW, Worker, changelog, keys, produce
from fresh_topics import make_changelog

from headrace.streams.errors import FencedError
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings, tmp_path) -> Settings:
    return make_settings(data_dir=tmp_path, snapshot_every_s=0, standby_replicas=1)


async def test_get_and_update(topics_made, sender):
    async with Worker(topics_made) as worker:
        table = worker.table
        table.update(2, keys(2, 6), {"count": [5, 6], "offset": 1})
        assert table.get(2, keys(6, 10, 2))["count"].tolist() == [6, 0, 5]
        assert table.get(2, keys(6, 10, 2))["key"].tolist() == [6, 0, 2]
        assert len(table.partition(2).rows) == 2
        table.partition(2).delete(keys(6))
        await table.write({2: table.partition(2).take()})
        assert [(r.key[0], r.value is None) for r in await changelog(topics_made, 2)] == [
            (2, False),
            (6, True),
        ]


async def test_rows_are_written_again_when_the_broker_has_lost_the_last_ones(
    topics_made, sender, monkeypatch
):
    """It refuses what this producer writes then, once; else the worker would end, who alone has the rows."""
    async with Worker(topics_made) as worker:
        table, send = worker.table, BatchSender.send_rows
        part, refused = table.partition(2), []

        async def refuse(self: BatchSender, *args, **kwargs):
            if refused:
                raise refused.pop()
            return await send(self, *args, **kwargs)

        monkeypatch.setattr(BatchSender, "send_rows", refuse)

        async def written() -> dict[int, int]:
            rows = {r.key[0]: unpack([r.value], ROW)[0][0] for r in await changelog(topics_made, 2)}
            return {key: int(row["count"]) for key, row in rows.items()}

        table.update(2, keys(2, 6), {"count": [5, 6], "offset": 1})
        refused.append(OutOfOrderSequenceNumber())
        await table.write({2: part.take()})
        assert (await written(), part.clean) == ({2: 5, 6: 6}, True)

        table.update(2, keys(6), {"count": [7], "offset": 2})
        refused += [OutOfOrderSequenceNumber(), OutOfOrderSequenceNumber()]
        with pytest.raises(OutOfOrderSequenceNumber):
            await table.write({2: part.take()})
        assert (await written(), part.clean) == ({2: 5, 6: 6}, False), "it is tried once more, and said"

        refused.append(OutOfOrderSequenceNumber())
        table.lost.add(2)
        await table.lost.write_again()
        records = await changelog(topics_made, 2)
        assert [r.key[0] for r in records] == [2, 6, 2], "all clean rows"
        await table.write({2: part.take()})
        assert await written() == {2: 5, 6: 7}

        table.update(2, keys(6), {"count": [8], "offset": 3})
        refused.append(OutOfOrderSequenceNumber())
        leases = [True, False]
        monkeypatch.setattr(worker.app.consumer, "lease_valid", lambda: leases.pop(0) if leases else False)
        with pytest.raises(FencedError):
            await table.write({2: part.take()})
        assert (await written(), part.clean) == ({2: 5, 6: 7}, False), "another worker may own it by now"


async def test_a_late_writer_loses_for_good(topics_made, sender, eventually):
    settings = topics_made
    changelog_topic = Topics(settings).user_state
    await produce(sender, settings, range(1, 9), each=5)
    async with Worker(settings) as worker:
        await eventually(lambda: worker.counts() == dict.fromkeys(range(1, 9), 5))
        stale = worker.table.get(0, keys(4))
        stale["count"], stale["offset"] = 2, 1
        zombie = [
            ((4).to_bytes(8, "little"), stale.tobytes(), None, ()),
            (b"mark", (1).to_bytes(8, "little"), None, ()),
        ]
        await sender.send_many(changelog_topic, zombie, partition=0)
        await produce(sender, settings, [8])  # another key of that partition
        part = worker.table.partition(0)
        await eventually(lambda: worker.table.get(0, keys(8))["count"] == [6] and part.dirty)
        assert worker.table.get(0, keys(4))["count"] == [5]
        await worker.table.write({0: part.take()})
        assert part.clean
        assert part.position == len(await changelog(settings, 0))
    last = {r.key: r.value for r in await changelog(settings, 0)}  # as compaction leaves it
    row = unpack([last[(4).to_bytes(8, "little")]], ROW)[0][0]
    assert (row["count"], row["offset"]) == (5, 8)
    assert last[b"mark"] == (10).to_bytes(8, "little")

    # Written while no worker owned it: the next owner repairs it.
    await sender.send_many(changelog_topic, zombie, partition=0)
    async with Worker(settings) as worker:
        assert worker.table.get(0, keys(4))["count"] == [5]
        changes = worker.table.partition(0).take()
        assert (changes.rows.keys.tolist(), list(changes.meta)) == ([4], [b"mark"])
        await worker.table.write({0: changes})


async def test_writes_are_refused_when_they_may_be_late(topics_made, sender, eventually):
    settings = topics_made
    await produce(sender, settings, range(1, 9))
    async with Worker(settings) as worker:
        await eventually(lambda: len(worker.counts()) == 8)
        part = worker.table.partition(1)
        position = part.position
        rows = part.rows.find(keys(1))
        part.touch(rows)
        worker.app.consumer.lease_valid = lambda: False
        with pytest.raises(FencedError):
            worker.table.check_lease()
        with pytest.raises(FencedError):
            await worker.table.write({1: part.take()})
        assert part.dirty
        del worker.app.consumer.lease_valid
        await worker.table.suspend()  # as at the end of a revocation
        with pytest.raises(FencedError):
            await worker.table.write({1: part.take()})
        with pytest.raises(FencedError):
            worker.table.partition(1)
        worker.table.assign({n: p for n, p in worker.table.active.items() if n != 1}, {})
        with pytest.raises(FencedError):
            await worker.table.write({1: part.take()})
        assert part.dirty
        assert part.position == position == len(await changelog(settings, 1))


async def test_evicted_rows_come_back_when_they_are_needed(topics_made, sender, eventually):
    settings = topics_made
    ids = range(1, 401)
    await produce(sender, settings, ids, each=2)
    async with Worker(settings) as worker:
        await eventually(lambda: worker.counts() == dict.fromkeys(ids, 2))
        for part in worker.table.active.values():
            assert len(part.evict(max_rows=10)) == 91
        assert sum(len(p.rows) for p in worker.table.active.values()) == 36
        await produce(sender, settings, ids)
        await eventually(lambda: sum(worker.counts().values()) == 1200)
        assert worker.counts() == dict.fromkeys(ids, 3)
        assert worker.table.scans == 0
        for part in worker.table.active.values():
            part.evict(max_rows=10)
            assert part.expire(2**60).size == 100
        for n, part in worker.table.active.items():
            await worker.table.write({n: part.take()})
    async with Worker(settings, max_rows=20) as worker:
        assert worker.counts() == {}
        await produce(sender, settings, ids)
        await eventually(lambda: worker.counts() == dict.fromkeys(ids, 1))
    async with Worker(settings, max_rows=20) as worker:  # recovery, too, keeps memory bounded
        assert all(len(part.rows) <= 20 for part in worker.table.active.values())
        assert all(part.evicted_count + len(part.rows) == 100 for part in worker.table.active.values())
        await produce(sender, settings, ids)
        await eventually(lambda: sum(worker.counts().values()) == 800)
        assert worker.counts() == dict.fromkeys(ids, 2)
        assert worker.table.scans == 0


async def test_faust_tables_beside_columnar_ones(topics_made, sender, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await make_changelog(settings, settings.name("headrace-clicks"), "words")

    def both() -> Worker:
        worker = Worker(settings)
        worker.words = worker.app.Table("words", default=int, partitions=4)
        words_topic = worker.app.topic(topics.impressions, value_serializer="raw", key_serializer="raw")

        @worker.app.agent(words_topic)
        async def words(stream):
            async for value in stream:
                worker.words[value.decode()] += 1

        return worker

    async def say() -> None:
        await produce(sender, settings, range(1, 9))
        for n in range(4):
            await sender.send_many(topics.impressions, [(b"k", b"word-%d" % n, None, ())] * 5, partition=n)

    await say()
    async with both() as worker:
        await eventually(lambda: len(worker.counts()) == 8 and sum(worker.words.values()) == 20)
    await say()
    async with both() as worker:
        await eventually(lambda: worker.counts() == dict.fromkeys(range(1, 9), 2), 15)
        await eventually(lambda: dict(worker.words) == {f"word-{n}": 10 for n in range(4)}, 15)
