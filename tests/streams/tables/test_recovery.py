"""Recovery of a state store: from its changelog and from snapshots; records and files it refuses."""

from __future__ import annotations

import json
import zlib

import pytest
from counting_worker import Worker, changelog, produce
from fresh_topics import make_topic, make_topics

from headrace.streams.errors import HeadraceError
from headrace.streams.settings import Settings
from headrace.streams.tables import snapshots
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import Reader, open_reader, read_partition

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings, tmp_path) -> Settings:
    return make_settings(data_dir=tmp_path, snapshot_every_s=0, standby_replicas=1)


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


async def test_a_snapshot_is_used_and_the_rest_is_read(make_settings, tmp_path, sender, eventually):
    settings = make_settings(
        data_dir=tmp_path, snapshot_every_s=300, topic_prefix=sender._settings.topic_prefix
    )
    await make_topics(settings)
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
    await make_topics(settings)
    await produce(sender, settings, range(1, 9))
    async with Worker(settings) as worker:
        await eventually(lambda: len(worker.counts()) == 8)
    topic = Topics(settings).user_state
    other = make_settings(data_dir=tmp_path, snapshot_every_s=300)
    await make_topics(other)
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


async def test_a_missing_changelog_is_an_error(settings, real_kafka, monkeypatch):
    if not real_kafka:
        pytest.skip("the embedded broker makes a topic of everything that is asked for")
    monkeypatch.setattr("headrace.streams.tables.recovery.NO_TOPIC_S", 0.0)
    await make_topic(settings, Topics(settings).events)
    with pytest.raises(HeadraceError, match="does not exist"):
        async with Worker(settings):
            pass
