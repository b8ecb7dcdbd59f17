"""Partitions of a state store move between workers: rebalances, standby copies, foreign writes."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from counting_worker import ROW, Worker, keys, produce

from headrace.streams.errors import FencedError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings, tmp_path) -> Settings:
    return make_settings(data_dir=tmp_path, snapshot_every_s=0, standby_replicas=1)


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


@pytest.mark.parametrize("noticed", [False, True], ids=["in the rebalance", "by a write before it"])
async def test_a_partition_that_others_wrote_to_is_another_object(topics_made, sender, eventually, noticed):
    settings = topics_made
    await produce(sender, settings, range(1, 9))
    async with Worker(settings, "one") as one:
        await eventually(lambda: len(one.counts()) == 8)
        before = dict(one.table.active)
        foreign = np.zeros(1, ROW)
        foreign["key"], foreign["offset"], foreign["count"] = 900, 99, 50
        foreign["layout"] = before[0].rows.layout
        row = ((900).to_bytes(8, "little"), foreign.tobytes(), None, ())
        for n in before:
            await sender.send_many(Topics(settings).user_state, [row], partition=n)

        def read(n: int) -> bool:
            return one.table.get(n, keys(900))["count"].tolist() == [50]

        if noticed:  # as by a worker that was stopped for longer than its session, and goes on
            await produce(sender, settings, range(1, 101))
            await eventually(lambda: all(map(read, before)))
        two = Worker(settings, "two")
        async with two:
            await eventually(lambda: len(one.table.active) == 2 and len(two.table.active) == 2)
            for n, part in one.table.active.items():
                assert part is not before[n]
        await eventually(lambda: len(one.table.active) == 4)
        assert all(map(read, before))


@pytest.mark.parametrize("seed", range(2))
async def test_counts_are_exact_while_workers_come_and_go(topics_made, sender, eventually, seed):
    settings = topics_made
    ids = range(1, 201)
    sent = 0
    async with Worker(settings, "stays") as stays:
        for round_ in range(3):
            async with Worker(settings, f"guest-{seed}-{round_}") as guest:
                for _ in range(5):
                    batches = stays.batches + guest.batches
                    await produce(sender, settings, ids)
                    sent += 1
                    await eventually(lambda seen=batches: stays.batches + guest.batches > seen)
                await eventually(lambda: len(guest.table.active) == 2)
            await produce(sender, settings, ids)
            sent += 1
        with contextlib.suppress(AssertionError):
            await eventually(lambda: stays.counts() == dict.fromkeys(ids, sent), 15)
        assert stays.counts() == dict.fromkeys(ids, sent)
