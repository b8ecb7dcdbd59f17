"""Columnar tables and a broker: recovery, rebalances, standby copies, late writers, snapshots, eviction."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections import Counter

import numpy as np
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from headrace.streams.app import make_app
from headrace.streams.errors import FencedError, HeadraceError
from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.tables import snapshots
from headrace.streams.tables.rows import unpack
from headrace.streams.tables.store import StateStore
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import Reader, open_reader, read_partition
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.batches import batch_topic, manual

pytestmark = pytest.mark.broker

ROW = np.dtype(
    [
        ("key", "u8"),
        ("offset", "i8"),
        ("updated", "i8"),
        ("layout", "u4"),
        ("count", "u4"),
        ("rest", "u1", 64),
    ]
)


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


class Worker:
    """Counts events per key (4 decimal digits) in a table; a row per key."""

    def __init__(self, settings: Settings, name: str = "w", **options) -> None:
        topics = Topics(settings)
        self.settings, self.name = settings, name
        self.sender = BatchSender(settings)
        self.app = make_app(settings, "clicks")
        self.table = StateStore(
            self.app, "clicks", changelog=topics.user_state, dtype=ROW, sender=self.sender, **options
        )
        self.handled: Counter[int] = Counter()
        self.batches = 0

        @self.app.agent(batch_topic(self.app, topics.events))
        async def count(stream):
            async for batch, ack in manual(stream):
                try:
                    await self.count(batch)
                except FencedError:
                    continue  # it comes again, to whoever owns the partition then
                ack()

        self._stop, self._task = asyncio.Event(), None

    async def count(self, batch) -> None:
        part = self.table.partition(batch.partition)
        ids = keys(*(int(r.key) for r in batch))
        away = part.evicted(ids)
        if len(away):
            await self.table.restore(part.number, away)
        rows = part.rows.take(ids)
        data = part.rows.data
        for row, record in zip(rows.tolist(), batch, strict=True):
            if record.offset > data["offset"][row] or not data["count"][row]:
                data["count"][row] += 1
                data["offset"][row] = record.offset
                data["updated"][row] = record.timestamp
        part.touch(rows)
        part.set_meta(b"mark", batch.last_offset.to_bytes(8, "little", signed=True))
        await self.table.write({part.number: part.take()})
        self.handled[batch.partition] += len(batch)
        self.batches += 1

    @property
    def recovery(self):
        return self.app.tables.recovery

    def counts(self) -> dict[int, int]:
        """Return all counts, or nothing while some are not in the changelog yet."""
        found = {}
        if not all(part.clean for part in self.table.active.values()):
            return {}
        for part in self.table.active.values():
            data = part.rows.data[part.rows.rows()]
            found |= dict(zip(data["key"].tolist(), data["count"].tolist(), strict=True))
        return found

    async def __aenter__(self) -> Worker:
        ready = asyncio.Event()
        self._task = asyncio.create_task(
            run_apps([self.app], settings=self.settings, services=[self.sender], ready=ready, stop=self._stop)
        )
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiting}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        assert ready.is_set()
        return self

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            await asyncio.wait_for(self._task, 20)

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@pytest.fixture
def settings(make_settings, tmp_path) -> Settings:
    return make_settings(data_dir=tmp_path, snapshot_every_s=0, standby_replicas=1)


async def produce(sender, settings: Settings, ids, each: int = 1) -> None:
    """Send events of some keys, ``each`` times; key k goes to partition k % 4."""
    for partition in range(4):
        mine = [k for k in ids if k % 4 == partition] * each
        await sender.send_many(
            Topics(settings).events, [(b"%d" % k, b"", None, ()) for k in mine], partition=partition
        )


async def changelog(settings: Settings, partition: int) -> list:
    found = []
    await read_partition(settings, Topics(settings).user_state, partition, lambda b: found.extend(b.records))
    return found


async def test_a_table_is_recovered_after_a_stop(topics_made, sender, eventually):
    settings = topics_made
    ids = range(1, 401)
    await produce(sender, settings, ids, each=3)
    async with Worker(settings) as worker:
        assert worker.recovery.last_read == 0
        await eventually(lambda: sum(worker.counts().values()) == 1200)
        assert set(worker.table.active) == {0, 1, 2, 3}
        assert worker.app.tables["clicks"] is worker.table
        assert worker.table["7"]["count"] == 3
        # The group's consumer has nothing to do with the changelog but that the partitions are assigned.
        consumer = worker.app.consumer._thread._consumer
        ours = {tp for tp in consumer.assignment() if tp.topic == worker.table.changelog}
        assert len(ours) == 4
        assert ours <= set(consumer.paused())
        assert not ours & set(consumer._fetcher._records)
        ends = {n: part.position for n, part in worker.table.active.items()}
    async with Worker(settings) as again:
        assert again.counts() == dict.fromkeys(ids, 3)
        assert {n: part.position for n, part in again.table.active.items()} == ends
        assert again.recovery.last_read == sum(ends.values())
        marks = {n: part.meta[b"mark"] for n, part in again.table.active.items()}
        assert marks == {n: (299).to_bytes(8, "little") for n in range(4)}
        await produce(sender, settings, ids)
        await eventually(lambda: again.counts() == dict.fromkeys(ids, 4))
        # Positions count own writes, and nothing was read back to know it.
        assert {n: part.position for n, part in again.table.active.items()} == {
            n: len(await changelog(settings, n)) for n in range(4)
        }


async def test_partitions_move_and_those_that_stay_are_not_read_again(topics_made, sender, eventually):
    settings = topics_made
    ids = range(1, 801)
    await produce(sender, settings, ids)
    async with Worker(settings, "one") as one:
        await eventually(lambda: one.counts() == dict.fromkeys(ids, 1))
        before = dict(one.table.active)
        async with Worker(settings, "two") as two:
            await eventually(lambda: len(one.table.active) == 2 and len(two.table.active) == 2)
            assert set(one.table.active) == set(two.table.standby)
            assert set(two.table.active) == set(one.table.standby)
            for n, part in one.table.active.items():
                assert part is before[n]
            assert one.recovery.last_read == 0
            assert two.recovery.last_read == sum(p.position for p in two.table.active.values())
            await eventually(lambda: one.counts() | two.counts() == dict.fromkeys(ids, 1))
            with pytest.raises(FencedError):
                one.table.partition(next(iter(two.table.active)))

            await produce(sender, settings, ids, each=2)
            await eventually(lambda: one.counts() | two.counts() == dict.fromkeys(ids, 3))
            await eventually(
                lambda: (
                    [one.table.standby[n].position for n in sorted(two.table.active)]
                    == [p.position for _, p in sorted(two.table.active.items())]
                )
            )
            copies = dict(one.table.standby)
            for n, part in copies.items():
                theirs = two.table.active[n]
                assert part.meta == theirs.meta
                assert (
                    part.rows.data[part.rows.find(theirs.rows.keys())].tobytes()
                    == theirs.rows.data[theirs.rows.rows()].tobytes()
                )
        await eventually(lambda: len(one.table.active) == 4)
        assert one.recovery.last_read == 0, "standby copies became the partitions"
        assert {n: one.table.active[n] for n in copies} == copies
        await eventually(lambda: one.counts() == dict.fromkeys(ids, 3))
        await produce(sender, settings, ids)
        await eventually(lambda: one.counts() == dict.fromkeys(ids, 4))


async def test_a_partition_that_others_wrote_to_is_another_object(topics_made, sender, eventually):
    settings = topics_made
    await produce(sender, settings, range(1, 9))
    async with Worker(settings, "one") as one:
        await eventually(lambda: len(one.counts()) == 8)
        before = dict(one.table.active)
        foreign = np.zeros(1, ROW)
        foreign["key"], foreign["offset"], foreign["count"] = 8, 99, 50
        foreign["layout"] = before[0].rows.layout
        await sender.send_many(
            Topics(settings).user_state,
            [((8).to_bytes(8, "little"), foreign.tobytes(), None, ())],
            partition=0,
        )
        two = Worker(settings, "two")
        async with two:
            await eventually(lambda: len(one.table.active) == 2 and len(two.table.active) == 2)
        await eventually(lambda: len(one.table.active) == 4)
        assert one.table.active[0] is not before[0]
        await eventually(lambda: one.counts().get(8) == 50)


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

    # Written while nobody owned it: the next owner repairs it.
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


async def test_a_snapshot_is_used_and_the_rest_is_read(make_settings, tmp_path, sender, eventually):
    settings = make_settings(
        data_dir=tmp_path, snapshot_every_s=300, topic_prefix=sender._settings.topic_prefix
    )
    await create_topics(settings)
    ids = range(1, 401)
    await produce(sender, settings, ids)
    async with Worker(settings) as worker:
        await eventually(lambda: worker.counts() == dict.fromkeys(ids, 1))
        for part in worker.table.active.values():
            assert await worker.table.snapshot(part)
            assert not await worker.table.snapshot(part), "nothing is new"
        saved = {n: part.position for n, part in worker.table.active.items()}
    assert len(list((tmp_path / "snapshots").iterdir())) == 4
    async with Worker(settings) as worker:
        assert worker.recovery.last_read == 0
        assert worker.counts() == dict.fromkeys(ids, 1)
        await produce(sender, settings, ids)
        await eventually(lambda: worker.counts() == dict.fromkeys(ids, 2))
        more = {n: part.position - saved[n] for n, part in worker.table.active.items()}
        for part in worker.table.active.values():
            part.touch(part.rows.rows()[:1])  # not clean: no snapshot at the stop
    async with Worker(settings) as worker:
        assert worker.recovery.last_read == sum(more.values())
        assert worker.counts() == dict.fromkeys(ids, 2)
    async with Worker(settings) as worker:  # a clean stop left one
        assert worker.recovery.last_read == 0
        assert worker.counts() == dict.fromkeys(ids, 2)


async def test_a_snapshot_of_another_changelog_is_not_used(
    make_settings, tmp_path, sender, eventually, caplog
):
    settings = make_settings(
        data_dir=tmp_path, snapshot_every_s=300, topic_prefix=sender._settings.topic_prefix
    )
    await create_topics(settings)
    await produce(sender, settings, range(1, 9))
    async with Worker(settings) as worker:
        await eventually(lambda: len(worker.counts()) == 8)
    topic = Topics(settings).user_state
    other = make_settings(data_dir=tmp_path, snapshot_every_s=300)
    await create_topics(other)
    # The same records but one, elsewhere: as if the topic had been deleted and made again.
    for n in range(4):
        records = await changelog(settings, n)
        mine = [(r.key, r.value, None, ()) for r in records[:-1]] + [(b"mark", b"another", None, ())] * 2
        await sender.send_many(Topics(other).user_state, mine, partition=n)
    folder = tmp_path / "snapshots"
    for path in list(folder.iterdir()):
        content = path.read_bytes()
        header = json.loads(content[: snapshots.HEADER_BYTES])
        body = zlib.crc32(content[snapshots.HEADER_BYTES :])
        header["topic"] = Topics(other).user_state
        header["crc"] = snapshots._header_crc(header, body)
        made = folder / path.name.replace(topic, Topics(other).user_state)
        made.write_bytes(
            json.dumps(header).encode().ljust(snapshots.HEADER_BYTES) + content[snapshots.HEADER_BYTES :]
        )
    async with Worker(other, "other") as worker:
        assert "of another changelog" in caplog.text
        assert all(part.meta[b"mark"] == b"another" for part in worker.table.active.values())
        assert worker.recovery.last_read == sum(p.position for p in worker.table.active.values())


async def test_evicted_rows_come_back_when_they_are_needed(topics_made, sender, eventually):
    settings = topics_made
    asked = []

    async def fetch(partition, wanted):
        asked.append((partition, wanted.tolist()))
        return [None if k > 200 else stored.get(k) for k in wanted.tolist()]

    stored: dict[int, bytes] = {}
    ids = range(1, 401)
    await produce(sender, settings, ids, each=2)
    async with Worker(settings, fetch=fetch) as worker:
        await eventually(lambda: worker.counts() == dict.fromkeys(ids, 2))
        for part in worker.table.active.values():
            stored |= dict(zip(part.rows.keys().tolist(), part.rows.pack(part.rows.rows()), strict=True))
            assert len(part.evict(max_rows=10)) == 91
        assert sum(len(p.rows) for p in worker.table.active.values()) == 36
        await produce(sender, settings, ids)
        await eventually(lambda: sum(worker.counts().values()) == 1200)
        assert worker.counts() == dict.fromkeys(ids, 3)
        assert {p for p, _ in asked} == {0, 1, 2, 3}
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


async def test_faust_tables_beside_columnar_ones(topics_made, sender, eventually):
    settings, topics = topics_made, Topics(topics_made)
    name = settings.name("headrace-clicks") + "-words-changelog"
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 4, 1, topic_configs={"cleanup.policy": "compact"})])
    await admin.close()

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


async def test_a_hole_at_the_end_does_not_hang(topics_made, sender, monkeypatch):
    settings = topics_made
    topic = Topics(settings).user_state
    await sender.send_many(topic, [(b"mark-%d" % n, b"", None, ()) for n in range(10)], partition=0)
    async with open_reader(settings, [topic], [0]) as reader:
        (tp,) = reader.partitions
        reader.start({tp: 0})
        assert not reader.nothing_before(tp, 10), "nothing was asked yet"
        assert (await reader.fetch(5.0))[0].position == 10
        for _ in range(100):
            if reader.nothing_before(tp, 10):
                break
            assert not await reader.fetch(0.1)
        assert reader.nothing_before(tp, 10)
        assert not reader.nothing_before(tp, 11), "it may come yet"

    # A broker that says "15" and has removed the last five records.
    bounds, nothing = Reader.bounds, Reader.nothing_before

    async def with_hole(self):
        begins, ends = await bounds(self)
        return begins, {tp: end + 5 for tp, end in ends.items()}

    monkeypatch.setattr(Reader, "bounds", with_hole)
    monkeypatch.setattr(Reader, "nothing_before", lambda self, tp, end: nothing(self, tp, end - 5))
    found = []
    assert await read_partition(settings, topic, 0, lambda b: found.extend(b.records)) == 15
    assert len(found) == 10
    async with Worker(settings) as worker:
        assert {n: part.position for n, part in worker.table.active.items()} == {0: 15, 1: 5, 2: 5, 3: 5}
        assert len(worker.table.active[0].meta) == 10


async def test_a_missing_changelog_is_an_error(settings, real_kafka):
    if not real_kafka:
        pytest.skip("the embedded broker makes a topic of everything that is asked for")
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    await admin.create_topics([NewTopic(Topics(settings).events, 4, 1)])
    await admin.close()
    with pytest.raises(HeadraceError, match="does not exist"):
        async with Worker(settings):
            pass


@pytest.mark.parametrize("seed", range(2))
async def test_counts_are_exact_while_workers_come_and_go(topics_made, sender, eventually, seed):
    settings = topics_made
    ids = range(1, 201)
    sent = 0
    async with Worker(settings, "stays") as stays:
        for round_ in range(3):
            async with Worker(settings, f"guest-{seed}-{round_}") as guest:
                for _ in range(5):
                    await produce(sender, settings, ids)
                    sent += 1
                    await asyncio.sleep(0.05)
                await eventually(lambda: len(guest.table.active) == 2)
            await produce(sender, settings, ids)
            sent += 1
        with contextlib.suppress(AssertionError):
            await eventually(lambda: stays.counts() == dict.fromkeys(ids, sent), 15)
        assert stays.counts() == dict.fromkeys(ids, sent)
