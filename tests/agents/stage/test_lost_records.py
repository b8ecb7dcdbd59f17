"""A broker loses the last records of a log in a power cut: what is left, and what comes then, counts once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest
from counting_stage import CountWorker, produce
from torn_log import Broker, cut_log
from transport_probes import collecting, quick_app
from transport_worker import committed

from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.tail import Tail

pytestmark = pytest.mark.broker


KEYS = range(1, 41)


async def send(settings: Settings, each: int) -> Counter[int]:
    """Send ``each`` events of every key, in record batches of one round."""
    sent: Counter[int] = Counter()
    for _ in range(each):
        sent += await produce(settings, Topics(settings).events, KEYS)
    return sent


async def cut(kafka: Broker, topic: str, keep: int) -> list[int]:
    await kafka.kill()
    ends = [cut_log(kafka.data, topic, partition, keep) for partition in range(4)]
    await kafka.start()
    return ends


@pytest.mark.parametrize("more", [1, 8], ids=["ends before", "ends after"])
async def test_the_source_loses_its_tail_while_the_workers_are_down(lossy, kafka, eventually, caplog, more):
    settings, topic = lossy, Topics(lossy).events
    sent = await send(settings, 5)  # offsets 0..49 of every partition
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent, 20)
        last = {number: numbers[-1] for number, numbers in worker.stage.numbers.items()}
    assert await cut(kafka, topic, 30) == [30] * 4
    sent += await send(settings, more)  # before any worker looks
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent, 20)
        assert all(numbers[0] > last[n] for n, numbers in worker.stage.numbers.items()), "numbers go on"
        assert {offset for _, offset in worker.stage.seen} == set(range(30, 30 + 10 * more)), "at the cut"
        sent += await send(settings, 1)
        await eventually(lambda: worker.counts() == sent, 20)
    assert f"{topic}-0 has lost its last 20 records: it goes on at offset 30" in caplog.text


async def test_the_source_loses_its_tail_under_a_running_worker(lossy, kafka, eventually, caplog):
    settings, topic = lossy, Topics(lossy).events
    sent = await send(settings, 5)
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent, 20)
        await eventually(worker.durable)
        assert await cut(kafka, topic, 30) == [30] * 4
        sent += await send(settings, 4)  # the log is longer than before when the worker is back
        await eventually(lambda: worker.counts() == sent, 40)
        assert all(numbers == sorted(set(numbers)) for numbers in worker.stage.numbers.values())
    assert "has lost its last" in caplog.text


@pytest.mark.parametrize("both", [False, True], ids=["changelog", "changelog and source"])
async def test_the_changelog_loses_its_tail_while_the_workers_are_down(
    lossy, kafka, eventually, caplog, both
):
    settings, topics = lossy, Topics(lossy)
    sent = await send(settings, 2)
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent, 20)
        await eventually(worker.durable)
        ends = [worker.stage.store.state_store.active[n].position for n in range(4)]
        more = await send(settings, 3)
        await eventually(lambda: worker.counts() == sent + more, 20)
        first = {
            n: dict(zip(numbers, range(len(numbers)), strict=True))
            for n, numbers in worker.stage.numbers.items()
        }
    await kafka.kill()
    for partition in range(4):
        assert cut_log(kafka.data, topics.user_state, partition, ends[partition]) == ends[partition]
        if both:
            assert cut_log(kafka.data, topics.events, partition, 40) == 40
    await kafka.start()
    if both:
        more = Counter(dict.fromkeys(KEYS, 2))
        more += await send(settings, 1)
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent + more, 20)
        again = dict(worker.stage.numbers)
    assert f"{topics.events}-0 is read from offset 20, not 50" in caplog.text or both
    for number, numbers in again.items():
        known = [n for n in numbers if n < 40]
        assert known == list(range(20, 40)), "events that were counted before have the same numbers"
        if both:  # the numbers 40..49 were given to events that are lost
            assert min(n for n in numbers if n >= 40) == 50
            assert not set(numbers) & (set(first[number]) - set(known))


async def test_a_group_without_state_goes_on_where_the_lost_records_were(lossy, kafka, eventually):
    settings, topic = lossy, Topics(lossy).events
    got: list[tuple[int, int]] = []
    sent = await send(settings, 3)
    for first in (0, 20):
        app, stop, ready = quick_app(settings, "collect"), asyncio.Event(), asyncio.Event()
        collecting(app, topic, got)
        running = asyncio.create_task(run_apps([app], settings=settings, ready=ready, stop=stop))
        await eventually(lambda sent=sent: len(got) == sum(sent.values()), 40)
        stop.set()
        await running
        assert sorted(got) == [(partition, offset) for partition in range(4) for offset in range(first, 30)]
        got.clear()
        assert await cut(kafka, topic, 20) == [20] * 4
        sent = await send(settings, 1)


async def test_a_tail_goes_on_where_the_lost_records_were(lossy, kafka, eventually):
    settings, topic = lossy, Topics(lossy).events
    got: list[tuple[int, int]] = []
    sent = await send(settings, 3)
    tail = Tail(settings, topic, lambda batch: got.extend((batch.partition, r.offset) for r in batch))
    async with tail:
        await eventually(lambda: len(got) == sum(sent.values()), 20)
        assert await cut(kafka, topic, 20) == [20] * 4
        await send(settings, 3)  # the log is longer than before when the tail is back
        await eventually(lambda: len(got) == 240, 40)
    assert sorted(got[120:]) == [(partition, offset) for partition in range(4) for offset in range(20, 50)]


async def test_the_offsets_of_the_group_are_lost(lossy, kafka, eventually):
    settings = lossy
    sent = await send(settings, 3)
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent, 20)
    await kafka.kill()
    for partition in range(4):
        with contextlib.suppress(ValueError):  # the coordinator of the group uses one of them
            cut_log(kafka.data, "__consumer_offsets", partition, 1)
    await kafka.start()
    assert max((await committed(settings, "count", Topics(settings).events)).values(), default=-1) < 0
    sent += await send(settings, 1)
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent, 20)
