"""Workers that join, leave, are killed or frozen: no record is lost, none is committed unprocessed."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from transport_probes import quick_app
from transport_worker import check_committed_is_processed, committed, fill, start_worker

from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, durable

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings) -> Settings:
    return make_settings(batch_max_records=500)


async def test_rebalance_mid_stream_loses_nothing(topics_made, sender, running, eventually, real_kafka):
    settings, topics = topics_made, Topics(topics_made)
    seen, done_by, owners = Counter(), Counter(), defaultdict(set)

    def worker(name):
        app = quick_app(settings, "pair")

        @app.agent(batch_topic(app, topics.events))
        async def collect(stream):
            async for batch in durable(stream):
                await asyncio.sleep(0.002)
                seen.update(r.value for r in batch)
                owners[name].add(batch.partition)
                done_by[name] += len(batch)

        return app

    done = asyncio.Event()

    async def produce():
        n = 0
        while not done.is_set():
            for p in range(4):
                await sender.send_many(
                    topics.events,
                    [(b"k", b"%d-%d" % (p, i), None, ()) for i in range(n, n + 50)],
                    partition=p,
                )
            n += 50
            await asyncio.sleep(0.01)
        return n

    producing = asyncio.create_task(produce())
    async with running(worker("a")):
        await eventually(lambda: len(owners["a"]) == 4)
        async with running(worker("b")):
            await eventually(lambda: len(owners["b"]) == 2)
            shared = done_by.copy()
            await eventually(lambda: all(done_by[name] > shared[name] + 500 for name in "ab"))
        before = sum(seen.values())
        await eventually(lambda: sum(seen.values()) > before + 1000)  # "a" has its partitions again
        done.set()
        n = await producing
        await eventually(lambda: len(seen) == 4 * n)

        async def all_committed():
            return await committed(settings, "pair", topics.events) == dict.fromkeys(range(4), n)

        await eventually(all_committed)
    assert set(seen) == {b"%d-%d" % (p, i) for p in range(4) for i in range(n)}
    if real_kafka:  # the embedded one takes no commit once a rebalance has begun: some work is repeated there
        assert set(seen.values()) == {1}, "clean handovers repeat nothing"


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


async def test_kill_9_in_the_middle_of_a_batch(topics_made, sender, eventually, tmp_path):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 2000, chunk=100)
    path = tmp_path / "processed"
    path.touch()

    def processed():
        return path.read_bytes().splitlines()

    # A static member: the embedded broker never removes a dead one. It works for half a minute: longer than
    # it takes to look.
    worker = start_worker(settings, path, 0.4, "worker-1")

    async def commits() -> bool:
        return any(offset > 0 for offset in (await committed(settings, "killed", topics.events)).values())

    try:
        await eventually(lambda: len(processed()) > 300, 15)
        await eventually(commits, 15)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    have = set(processed())
    offsets = await committed(settings, "killed", topics.events)
    assert any(offset > 0 for offset in offsets.values()), "something was committed before the kill"
    check_committed_is_processed(offsets, have)
    everything = {b"%d-%d" % (p, i) for p in range(4) for i in range(2000)}
    assert have < everything
    worker = start_worker(settings, path, 0, "worker-1")
    try:
        await eventually(lambda: set(processed()) == everything, 20)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    finally:
        worker.kill()
        worker.wait()
    assert await committed(settings, "killed", topics.events) == dict.fromkeys(range(4), 2000)


async def test_another_worker_takes_over_from_a_killed_one(
    topics_made, short_session_s, sender, eventually, tmp_path, real_kafka
):
    if not real_kafka:
        pytest.skip("the embedded broker never removes a dead member from its group")
    settings = topics_made.model_copy(update={"session_timeout_s": short_session_s})
    topics = Topics(settings)
    await fill(sender, topics.events, 2000, chunk=100)
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        path.touch()

    def processed(path):
        return path.read_bytes().splitlines()

    workers = [start_worker(settings, path, 0.05) for path in paths]
    try:
        await eventually(lambda: all(len(processed(path)) > 1000 for path in paths), 15)
        workers[0].send_signal(signal.SIGKILL)
        workers[0].wait()
        have = set(processed(paths[0])) | set(processed(paths[1]))
        check_committed_is_processed(await committed(settings, "killed", topics.events), have)
        everything = {b"%d-%d" % (p, i) for p in range(4) for i in range(2000)}
        await eventually(lambda: set(processed(paths[0])) | set(processed(paths[1])) == everything, 25)
        workers[1].send_signal(signal.SIGTERM)
        assert workers[1].wait(10) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert await committed(settings, "killed", topics.events) == dict.fromkeys(range(4), 2000)


async def test_a_worker_stopped_for_longer_than_its_session_goes_on(
    topics_made, short_session_s, sender, eventually, tmp_path
):
    settings = topics_made.model_copy(update={"session_timeout_s": short_session_s})
    topics = Topics(settings)
    await fill(sender, topics.events, 2000, chunk=100)
    path = tmp_path / "processed"
    path.touch()
    worker = start_worker(settings, path, 0.03, "worker-1")
    try:
        await eventually(lambda: len(lines(path)) > 2000, 20)
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(short_session_s + 0.5)  # the session is the broker's: its time is real
        stopped = await committed(settings, "killed", topics.events)
        check_committed_is_processed(stopped, set(lines(path)))
        worker.send_signal(signal.SIGCONT)
        everything = {b"%d-%d" % (p, i) for p in range(4) for i in range(2000)}
        await eventually(lambda: set(lines(path)) == everything, 30)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 15) == 0
    finally:
        worker.kill()
        worker.wait()
    assert await committed(settings, "killed", topics.events) == dict.fromkeys(range(4), 2000)


async def test_a_zombie_commits_nothing_and_begins_nothing(
    topics_made, short_session_s, sender, eventually, tmp_path, real_kafka
):
    if not real_kafka:
        pytest.skip("the embedded broker never removes a member from its group")
    settings = topics_made.model_copy(update={"session_timeout_s": short_session_s})
    topics = Topics(settings)
    await fill(sender, topics.events, 3000, chunk=100)
    paths = [tmp_path / "zombie", tmp_path / "heir"]
    for path in paths:
        path.touch()
    zombie, heir = start_worker(settings, paths[0], 0.05), None
    try:
        await eventually(lambda: len(lines(paths[0])) > 1000, 20)
        zombie.send_signal(signal.SIGSTOP)
        at_stop = len(lines(paths[0]))
        heir = start_worker(settings, paths[1], 0)

        async def all_committed():
            found = await committed(settings, "killed", topics.events)
            return found == dict.fromkeys(range(4), 3000)

        await eventually(all_committed, 40)
        zombie.send_signal(signal.SIGCONT)
        # It rejoins, and gets its share of what comes then.
        rejoined = asyncio.create_task(eventually(lambda: b"new" in lines(paths[0])[at_stop:], 40))
        while not rejoined.done():
            offsets = await committed(settings, "killed", topics.events)
            assert min(offsets.values()) >= 3000, "a commit of the zombie went back"
            for p in range(4):
                await sender.send_many(topics.events, [(b"k", b"new", None, ())] * 20, partition=p)
            await asyncio.sleep(0.05)
        await rejoined
        old = [value for value in lines(paths[0])[at_stop:] if value != b"new"]
        assert len(old) <= 100, "the body that ran when it was stopped; no batch from before was begun after"
        for worker in (zombie, heir):
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, 15) == 0
    finally:
        for worker in (zombie, heir):
            if worker is not None:
                worker.kill()
                worker.wait()
