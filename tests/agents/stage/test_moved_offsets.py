"""A stage counts every event once although offsets do not simply go on."""

from __future__ import annotations

import pytest
from counting_stage import (
    CountWorker,
    delete_records,
    delete_topic,
    make_again,
    move_group,
    produce,
)
from faust.types import TP
from fresh_topics import make_topic
from transport_probes import Asked
from transport_worker import committed

from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker

KEYS = range(1, 41)


@pytest.fixture
def settings(make_settings, tmp_path) -> Settings:
    return make_settings(data_dir=tmp_path, snapshot_every_s=0, standby_replicas=0, durable_every_ms=200)


def growing(worker: CountWorker) -> bool:
    return all(numbers == sorted(set(numbers)) for numbers in worker.stage.numbers.values())


@pytest.mark.parametrize("again", [8, 200], ids=["shorter", "longer"])
async def test_a_topic_made_again_while_the_workers_are_down(topics_made, eventually, caplog, again):
    settings, topic = topics_made, Topics(topics_made).events
    sent = await produce(settings, topic, [*KEYS, *KEYS])
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
        last = {number: numbers[-1] for number, numbers in worker.stage.numbers.items()}
    await delete_topic(settings, topic)
    await make_again(settings, topic)
    sent += await produce(settings, topic, [key % 40 + 1 for key in range(again)])
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
        assert "was deleted and made again" in caplog.text
        assert all(numbers[0] > last[n] for n, numbers in worker.stage.numbers.items()), "numbers go on"
        sent += await produce(settings, topic, KEYS)
        await eventually(lambda: worker.counts() == sent)
        assert growing(worker)
    caplog.clear()
    async with CountWorker(settings) as worker:
        sent += await produce(settings, topic, KEYS)
        await eventually(lambda: worker.counts() == sent)
    assert "made again" not in caplog.text, "it is said once"


async def test_a_topic_made_again_under_a_running_worker(topics_made, eventually, caplog, real_kafka):
    if not real_kafka:
        pytest.skip("the embedded broker makes a topic again as soon as a consumer asks for it")
    settings, topic = topics_made, Topics(topics_made).events
    sent = await produce(settings, topic, [*KEYS, *KEYS])
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
        for gone_for_long in (False, True):
            await delete_topic(settings, topic)
            if gone_for_long:  # the group rebalances without the topic
                await eventually(
                    lambda: not any(tp.topic == topic for tp in worker.app.consumer.assignment()), 20
                )
            await make_again(settings, topic)
            sent += await produce(settings, topic, KEYS)
            await eventually(lambda sent=sent: worker.counts() == sent, 30)
        assert growing(worker)
        await eventually(worker.durable)
    assert "was deleted and made again" in caplog.text
    async with CountWorker(settings) as worker:
        assert worker.counts() == sent
        sent += await produce(settings, topic, KEYS)
        await eventually(lambda: worker.counts() == sent)


async def test_a_worker_that_starts_before_its_topic_reads_it_when_it_is_there(
    settings, eventually, real_kafka
):
    if not real_kafka:
        pytest.skip("the embedded broker makes a topic of everything that is asked for")
    topics = Topics(settings)
    await make_topic(settings, topics.user_state, cleanup_policy="compact")
    async with CountWorker(settings) as worker:
        await eventually(lambda: len(worker.app.consumer.assignment()) == 4)
        await make_topic(settings, topics.events)
        sent = await produce(settings, topics.events, KEYS)
        await eventually(lambda: worker.counts() == sent, 20)


async def test_the_base_of_a_new_log_is_durable_before_its_first_number(topics_made, eventually):
    settings, topic = topics_made, Topics(topics_made).events
    sent = await produce(settings, topic, [*KEYS, *KEYS])
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
    await delete_topic(settings, topic)
    await make_again(settings, topic)
    sent += await produce(settings, topic, KEYS)
    slow = settings.model_copy(update={"durable_every_ms": 60_000})
    worker = CountWorker(slow)
    async with worker:
        await eventually(lambda: worker.counts() == sent)
        first = dict(worker.stage.numbers)
        await worker.stop(crash=True)
    worker = CountWorker(slow)
    async with worker:
        await eventually(lambda: worker.counts() == sent)
        assert worker.stage.numbers == first, "the same events have the same numbers: they are counted once"


async def test_a_group_moved_by_an_operator(topics_made, eventually, caplog):
    settings, topic = topics_made, Topics(topics_made).events
    sent = await produce(settings, topic, [*KEYS, *KEYS])
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
    sent += await produce(settings, topic, KEYS)
    await move_group(settings, "count", topic, {0: 0, 1: 30, 2: 30, 3: 5})
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
        assert min(offset for partition, offset in worker.stage.seen if partition == 0) == 0, "as he wished"
        assert min(offset for partition, offset in worker.stage.seen if partition == 1) == 20, (
            "none is left out"
        )
        sent += await produce(settings, topic, KEYS)
        await eventually(lambda: worker.counts() == sent)
    assert f"{topic}-1 is read from offset 20, not 30" in caplog.text
    assert f"{topic}-0 is read again from offset 0" in caplog.text
    assert (await committed(settings, "count", topic)) == dict.fromkeys(range(4), 40)


async def test_what_was_not_durable_before_a_rebalance_is_durable_after_it(topics_made, eventually):
    """An operator has moved the group beyond the end: nothing comes again from the committed offset."""
    settings, topic = topics_made, Topics(topics_made).events
    sent = await produce(settings, topic, [*KEYS, *KEYS])
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
    sent += await produce(settings, topic, KEYS)
    await move_group(settings, "count", topic, dict.fromkeys(range(4), 1000))
    slow = settings.model_copy(update={"durable_every_ms": 4000})
    async with CountWorker(slow) as one:
        await eventually(lambda: one.counts() == sent)
        async with CountWorker(slow) as two:
            active = two.stage.store.state_store.active
            await eventually(lambda: len(active) == 2, 20)
            await eventually(lambda: one.durable() and one.counts() | two.counts() == sent, 20)
            await eventually(two.durable, 20)
            sent += await produce(settings, topic, KEYS)
            await eventually(lambda: one.counts() | two.counts() == sent, 20)

            async def acked() -> bool:
                return (await committed(settings, "count", topic)) == dict.fromkeys(range(4), 40)

            await eventually(acked, 20)


async def test_records_deleted_unread_are_said_and_counted(topics_made, eventually, caplog):
    settings, topic = topics_made, Topics(topics_made).events
    sent = await produce(settings, topic, KEYS)
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
        await eventually(worker.durable)
    await produce(settings, topic, [*KEYS, *KEYS])  # offsets 10..29 of every partition
    await delete_records(settings, topic, 2, 38 - 10)
    await delete_records(settings, topic, 3, 7)  # these were read
    async with CountWorker(settings) as worker:
        expected = sum(sent.values()) * 3 - 18
        await eventually(lambda: sum(worker.counts().values()) == expected)
        assert dict(worker.app.consumer.unread) == {(topic, 2): 18}
    assert caplog.text.count("were deleted unread") == 1
    assert f"records 10..27 of {topic}-2 were deleted unread" in caplog.text


async def test_records_deleted_under_a_running_worker(topics_made, eventually, caplog):
    settings, topic = topics_made, Topics(topics_made).events
    sent = await produce(settings, topic, KEYS)
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
        worker.app.consumer.pause_partitions({TP(topic, 2)})
        asked = Asked(worker.app)
        await eventually(lambda: asked.leaves_out(topic, 2))
        sent += await produce(settings, topic, KEYS)  # offsets 10..19 of every partition
        await delete_records(settings, topic, 2, 14)
        worker.app.consumer.resume_partitions({TP(topic, 2)})
        await eventually(lambda: sum(worker.counts().values()) == 76)
        assert [offset for partition, offset in worker.stage.seen if partition == 2] == [
            *range(10),
            *range(14, 20),
        ]
    assert f"records 10..13 of {topic}-2 were deleted unread" in caplog.text
