"""The changelog of a stage is deleted and made again: nothing is lost while a worker has the rows."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from counting_stage import CountWorker, delete_topic, make_again, produce
from counting_worker import ROW

from headrace.streams.settings import Settings
from headrace.streams.tables.row_records import row_records
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import read_partition

pytestmark = pytest.mark.broker

KEYS = range(1, 41)


@pytest.fixture
def settings(make_settings, tmp_path) -> Settings:
    return make_settings(data_dir=tmp_path, snapshot_every_s=0, standby_replicas=0, durable_every_ms=200)


async def in_changelog(settings: Settings) -> Counter[int]:
    """Return the counts that a recovery would find."""
    found: Counter[int] = Counter()
    for number in range(4):
        records: list = []
        await read_partition(settings, Topics(settings).user_state, number, lambda b, r=records: r.extend(b))
        rows = [row for row in row_records(records).latest().values() if row is not None]
        if rows:
            content = unpack(rows, ROW)[0]
            found.update(dict(zip(content["key"].tolist(), content["count"].tolist(), strict=True)))
    return found


async def test_while_the_workers_are_down_everything_is_counted_again(topics_made, eventually, caplog):
    settings, topics = topics_made, Topics(topics_made)
    sent = await produce(settings, topics.events, [*KEYS, *KEYS])
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
        numbers = worker.stage.numbers
    await delete_topic(settings, topics.user_state)
    await make_again(settings, topics.user_state)
    sent += await produce(settings, topics.events, KEYS)
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent)
        assert {n: found[:20] for n, found in worker.stage.numbers.items()} == numbers, (
            "with the same numbers"
        )
    assert f"{topics.events}-2 the state has nothing of it: it is read from its beginning" in caplog.text


@pytest.mark.parametrize("noticed", ["by a write", "by a rebalance"])
async def test_under_a_running_worker_all_rows_are_written_again(
    topics_made, eventually, caplog, real_kafka, noticed
):
    if not real_kafka:
        pytest.skip("the embedded broker takes no more writes of a producer to a topic that was made again")
    settings, topics = topics_made, Topics(topics_made)
    sent = await produce(settings, topics.events, [*KEYS, *KEYS])
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent, 20)
        await eventually(worker.durable)
        assert await in_changelog(settings) == sent
        state = worker.stage.store.state_store
        state.active[1].evict(max_rows=1)
        assert state.active[1].evicted_count
        await delete_topic(settings, topics.user_state)
        await make_again(settings, topics.user_state)
        if noticed == "by a write":
            sent += await produce(settings, topics.events, range(1, 5))  # one key of each partition
        else:
            worker.app.consumer._thread._soon(
                worker.app.consumer._thread._consumer._coordinator.request_rejoin
            )
        await eventually(lambda: caplog.text.count("all rows are written again") == 4, 30)
        await eventually(partial(_as, settings, sent), 30)
        sent += await produce(settings, topics.events, KEYS)
        await eventually(lambda: sum(worker.stage.numbers[1][-1:]) >= 20 and worker.durable(), 20)
    async with CountWorker(settings) as worker:
        await eventually(lambda: worker.counts() == sent, 20)


async def _as(settings: Settings, sent: Counter[int]) -> bool:
    return await in_changelog(settings) == sent
