"""Cases of the store in a Redis Cluster only: slots that move, masters that die, one that lost its data."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from certificates import Authority
from redis_cluster import ClusterNode, RedisCluster

from headrace.serving.store.applied import Applied, Reached, encode
from headrace.serving.store.cluster_store import ClusterStore
from headrace.serving.store.groups import GROUPS, SLOTS
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.lag_evidence import redis_wrong

pytestmark = pytest.mark.broker

Eventually = Callable[..., Awaitable[None]]
#: Rows of every group.
KEYS = range(4 * GROUPS)


@pytest.fixture(autouse=True)
def whole(cluster: RedisCluster) -> Iterator[None]:
    yield
    cluster.repair()


@pytest.fixture
async def store(in_cluster: ClusterStore) -> ClusterStore:
    await in_cluster.put("u", rows_of(0))
    await in_cluster.read_marks("u", [0, 1])
    assert await in_cluster.set_marks("u", {0: 5, 1: 7}, {0: None, 1: None}) == {0, 1}
    await in_cluster.beat("u", [0, 1])
    return in_cluster


def rows_of(version: int) -> PackedRows:
    return PackedRows.of(KEYS, [b"%d v%d" % (key, version) for key in KEYS])


async def has(store: ClusterStore, version: int) -> bool:
    try:
        return await store.get("u", KEYS) == list(rows_of(version))
    except UnavailableError:
        return False


async def marks_of(store: ClusterStore) -> dict[int, int | None] | None:
    try:
        return await store.read_marks("u", [0, 1])
    except UnavailableError:
        return None


def keys_in(cluster: RedisCluster) -> list[int]:
    sizes = []
    for node in cluster.masters():
        with cluster.client(node) as client:
            sizes.append(client.dbsize())
    return sizes


async def test_every_master_has_a_part_of_the_rows(store: ClusterStore, cluster: RedisCluster) -> None:
    sizes = keys_in(cluster)
    assert len(sizes) == 3
    assert min(sizes) > sum(sizes) / 4


async def test_rows_of_a_slot_that_is_being_moved(
    store: ClusterStore, cluster: RedisCluster, cluster_settings: Settings
) -> None:
    slot = SLOTS[3]
    source = cluster.master_of(slot)
    to = next(node for node in cluster.masters() if node is not source)
    with cluster.client(source) as a, cluster.client(to) as b:
        b.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
        a.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(to))
        cluster.move_keys(slot, source, to, most=3)  # some are here, some are there
        assert a.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) > 0
        assert b.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 3
        assert await has(store, 0)
        await store.put("u", rows_of(1))
        assert await has(store, 1)
        await store.drop("u", [3, 3 + GROUPS])
        assert await store.get("u", [3, 3 + GROUPS, 3 + 2 * GROUPS]) == [None, None, b"259 v1"]
        await store.put("u", rows_of(2))
        cluster.move_keys(slot, source, to)
        for client in (b, a):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(to))
    assert await has(store, 2)
    late = ClusterStore(cluster_settings, 5.0, 5.0)  # asks for the slots itself
    assert await has(late, 2)
    await late.close()
    assert await store.read_marks("u", [0, 1]) == {0: 5, 1: 7}, "nothing was lost"
    assert await store.set_marks("u", {0: 6, 1: 8}, {0: 5, 1: 7}) == {0, 1}
    assert await store.read_marks("u", [0, 1]) == {0: 6, 1: 8}
    await asyncio.to_thread(cluster.move, [slot], source)


async def test_a_master_that_loses_its_data_is_noticed(store: ClusterStore, cluster: RedisCluster) -> None:
    assert await store.beating("u", [0, 1]) == {0, 1}
    with cluster.client(cluster.masters()[1]) as client:
        client.flushall()
    assert await store.beating("u", [0, 1]) == set()
    await store.beat("u", [0, 1])
    assert await store.beating("u", [0, 1]) == set(), "before the marks are read"
    assert await store.read_marks("u", [0, 1]) == {0: None, 1: None}
    assert await store.set_marks("u", {0: 6}, {0: 5}) == set()


async def test_a_replica_that_takes_over_without_the_last_writes_is_noticed(
    store: ClusterStore, cluster: RedisCluster, cluster_settings: Settings, eventually: Eventually
) -> None:
    lost = cluster.master_of(SLOTS[0])
    heir = cluster.cut_off(lost)
    await store.put("u", rows_of(1))
    assert await store.set_marks("u", {0: 8}, {0: 5}) == {0}
    assert await store.read_marks("u", [0, 1]) == {0: 8, 1: 7}
    lost.kill()
    await eventually(lambda: cluster.is_master(heir), 60)
    reader = ClusterStore(cluster_settings, 5.0, 5.0)

    async def reached() -> dict[int, bytes] | None:
        try:
            await store.beat("u", [0], {0: b"v1"})
            return await reader.beats("u", [0])
        except UnavailableError:
            return None

    async def answered() -> bool:
        return await reached() is not None

    await eventually(answered, 60)
    assert await reached() != {0: b"v1"}, "the writer has not heard of it yet"
    await reader.close()
    assert await store.read_marks("u", [0, 1]) == {0: None, 1: None}
    assert await store.get("u", [0]) == [b"0 v0"], "the acknowledged write is gone"
    assert await store.set_marks("u", {0: 0, 1: 0}, {0: None, 1: None}) == {0, 1}
    late = ClusterStore(cluster_settings, 5.0, 5.0)
    assert await late.read_marks("u", [0, 1]) == {0: 0, 1: 0}
    await late.close()
    await eventually(lambda: _answers(cluster_settings), 60)


async def _answers(settings: Settings) -> bool:
    return await redis_wrong(settings) == ""


async def test_a_cluster_without_a_master_is_named(
    store: ClusterStore, cluster: RedisCluster, cluster_settings: Settings, eventually: Eventually
) -> None:
    assert await redis_wrong(cluster_settings) == ""
    lost = cluster.master_of(SLOTS[0])
    replica = cluster.replica_of(lost)
    for node in (replica, lost):
        node.kill()

    async def down() -> bool:
        return "no master that answers" in await redis_wrong(cluster_settings)

    await eventually(down, 60)
    with pytest.raises(UnavailableError):
        await store.put("u", rows_of(1))


async def test_a_master_that_hangs_for_good(
    cluster_settings: Settings, cluster: RedisCluster, eventually: Eventually
) -> None:
    """Its connections stay open: nothing may wait for them."""
    store = ClusterStore(cluster_settings, timeout_s=2.0, read_timeout_s=0.2)
    hung = cluster.master_of(SLOTS[0])
    heir = cluster.replica_of(hung)
    try:
        await store.put("u", rows_of(0))
        assert hung.pid is not None
        os.kill(hung.pid, signal.SIGSTOP)
        with pytest.raises(UnavailableError):
            await store.get("u", [0])
        await eventually(lambda: cluster.is_master(heir), 60)

        async def right() -> bool:
            return await has(store, 0)

        await eventually(right, 30)
        await store.put("u", rows_of(1))
        await eventually(lambda: has(store, 1))  # a read that takes 0.2 s fails, on a busy machine, too
    finally:
        hung.kill()  # also one that is stopped
        await store.close()


async def test_over_tls_nodes_have_the_names_of_their_certificates(tmp_path: Path) -> None:
    with RedisCluster(tls=Authority(tmp_path), password=secrets.token_hex(8)) as made:
        settings = Settings(**made.access, topic_prefix="t-")
        store = ClusterStore(settings, timeout_s=5.0, read_timeout_s=5.0)
        try:
            await store.put("u", rows_of(0))
            to = made.master_of(SLOTS[-1])
            await asyncio.to_thread(made.move, SLOTS[:2], to)
            await store.put("u", rows_of(1))
            assert await has(store, 1)
        finally:
            await store.close()
        assert await redis_wrong(settings) == ""


async def test_marks_of_two_workers(store: ClusterStore, cluster_settings: Settings) -> None:
    other = ClusterStore(cluster_settings, 5.0, 5.0)
    try:
        assert await other.read_marks("u", [0, 1]) == {0: 5, 1: 7}
        assert await other.set_marks("u", {0: 3}, {0: 5}) == {0}
        assert await store.set_marks("u", {0: 9, 1: 9}, {0: 5, 1: 7}) == {1}, "the other one has moved it"
        assert await store.read_marks("u", [0, 1]) == {0: 3, 1: 9}
    finally:
        await other.close()


async def test_a_mark_is_as_good_as_that_of_its_worst_group(
    store: ClusterStore, cluster: RedisCluster, cluster_settings: Settings
) -> None:
    """Some groups have got a mark, then the writer died."""
    node = cluster.master_of(SLOTS[7])
    key = store._marks("u", 7)
    with cluster.client(node) as client:
        run = client.hget(key, "0").decode().split()[0]
        client.hset(key, "0", f"{run} 90")
    assert await store.read_marks("u", [0]) == {0: 5}
    assert await store.set_marks("u", {0: 6}, {0: 5}) == {0}
    assert await store.read_marks("u", [0]) == {0: 6}
    with cluster.client(node) as client:
        assert client.hget(key, "0").decode() == f"{run} 6"


async def test_of_the_beats_at_all_masters_the_one_that_says_least_counts(
    store: ClusterStore, cluster: RedisCluster
) -> None:
    said = {0: encode(Applied(events=Reached(9), users=Reached(4)))}
    await store.beat("u", [0, 1], said)
    assert await store.beats("u", [0, 1, 2]) == {**said, 1: b"1"}
    less = encode(Applied(events=Reached(8), users=Reached(4)))
    group = (await store._each())[1]
    with cluster.client(cluster.master_of(SLOTS[group])) as client:  # as one that has just taken over
        client.set(f"{store._start('w:u', group)}0", less)
    assert await store.beats("u", [0, 1]) == {0: less, 1: b"1"}
    with cluster.client(cluster.master_of(SLOTS[group])) as client:
        client.delete(f"{store._start('w:u', group)}1")
    assert await store.beating("u", [0, 1]) == {0}


async def test_nodes_are_found_when_the_named_ones_are_down(
    store: ClusterStore, cluster: RedisCluster, cluster_settings: Settings, eventually: Eventually
) -> None:
    named: list[ClusterNode] = [n for n in cluster.nodes if n.address in cluster_settings.redis_cluster]
    assert len(named) == 2
    for node in named:
        node.kill()

    async def back() -> bool:
        return await has(store, 0)

    await eventually(back, 60)
