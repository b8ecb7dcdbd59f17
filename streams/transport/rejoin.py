"""Gives a consumer that does not read any more new connections, and lets it join its group again.

All rules of a rebalance hold. The partitions are given up first: batches that run finish, what was acked is
committed, state stores refuse writes. Then the member leaves the group, and a new one joins. It starts at the
committed offsets: nothing is lost, and nothing counts twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from .consumer_thread import BatchConsumerThread
from .fetching import poke
from .stuck import Reading

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Longest time for leaving the group and closing the old connections, s.
CLOSE_S = 10.0


async def readings(thread: BatchConsumerThread) -> list[Reading]:
    """Return how every partition of the assignment is read; asks the broker where they end.

    Raises
    ------
    KafkaError
        When the broker does not answer.
    """
    return await _there(thread, _readings(thread))


async def rejoin(thread: BatchConsumerThread) -> bool:
    """Replace the ``AIOKafkaConsumer`` of a running thread.

    Returns
    -------
    False when the broker cannot be reached; the old consumer stays.

    Raises
    ------
    TimeoutError
        When the old consumer does not end within ``CLOSE_S``. It may still be a member of the group: the
        process has to end.
    """
    return await _there(thread, _rejoin(thread))


async def _there(thread: BatchConsumerThread, work: Coroutine[Any, Any, T]) -> T:
    """Await something in the consumer's thread."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, thread.thread_loop))


async def _readings(thread: BatchConsumerThread) -> list[Reading]:
    consumer, assignment = thread._ensure_consumer(), thread._assignment()
    if assignment is None or not assignment.tps:
        return []
    ends = await consumer.end_offsets(list(assignment.tps))
    due = thread.consumer._active_partitions - thread.positions.doubtful()
    states = {tp: assignment.state_value(tp) for tp in ends}
    return [
        Reading(tp, state.position if state.has_valid_position else None, ends[tp], tp in due)
        for tp, state in states.items()
        if state is not None
    ]


async def _rejoin(thread: BatchConsumerThread) -> bool:
    old = thread._ensure_consumer()
    topics = set(old.subscription())
    new = thread._create_consumer(loop=thread.thread_loop)
    try:
        await new.start()
    except KafkaError as exc:
        log.warning("The broker cannot be reached, the consumer is not restarted: %r", exc)
        await new.stop()
        return False
    await _give_up(thread, old.assignment())
    epoch = thread.consumer._assignment_epoch
    thread.adopt(new)
    poke(old._fetcher)  # a reader that waits for it ends
    await _close(old)
    if thread.consumer._assignment_epoch != epoch:  # the old member had just joined again
        await _give_up(thread, old.assignment())
    new.subscribe(topics=topics, listener=thread._rebalance_listener)
    return True


async def _give_up(thread: BatchConsumerThread, partitions: Any) -> None:
    """Do what is done when the group revokes partitions."""
    await thread._rebalance_listener.on_partitions_revoked(partitions)


async def _close(consumer: AIOKafkaConsumer) -> None:
    """Leave the group, then close the connections."""
    async with asyncio.timeout(CLOSE_S):
        stopping = asyncio.ensure_future(consumer.stop())
        await asyncio.wait({stopping})
        if (
            stopping.cancelled()
        ):  # aiokafka awaits the fetches that it has cancelled; the member has left before
            await consumer._client.close()
        else:
            stopping.result()
