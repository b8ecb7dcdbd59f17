"""Taking whole lists of records out of an aiokafka consumer, as its C parser made them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException

#: Longest wait for an answer that needs no data: connecting, positions, offsets.
REQUEST_TIMEOUT_S = 30.0
#: Bounds of the pause after an empty fetch that the broker did not hold.
MIN_PAUSE_S, MAX_PAUSE_S = 0.001, 0.025


class Fetched(NamedTuple):
    """Records of one partition, its position after them, and its high watermark (the end offset)."""

    tp: TopicPartition
    records: list[Any]
    position: int
    highwater: int


def take_records(result: Any, max_records: int) -> list[Any]:
    """Return the next records of one ``FetchResult`` as aiokafka's C records.

    aiokafka wraps each one in a dataclass, which costs three times what the parsing costs. Whole record
    batches are taken until there are ``max_records`` or more; the rest stays for the next call.
    """
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return []
    part = result._partition_records
    records: list[Any] = []
    position = part.next_fetch_offset
    while len(records) < max_records and part._records.has_next():
        batch = part._records.next_batch()
        if part._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {result._topic_partition}")
        if not batch.is_control_batch:
            chunk = list(batch)
            if chunk and chunk[0].offset < position:  # a batch is sent whole, also when asked from its middle
                chunk = [record for record in chunk if record.offset >= position]
            records.extend(chunk)
        position = batch.next_offset
    part.next_fetch_offset = position
    result._update_position()
    if not part._records.has_next():
        result._partition_records = None
    return records


def drain(
    fetcher: Any,
    active: Container[Any],
    max_records: int,
    in_bulk: Callable[[str], bool] = lambda topic: True,
) -> list[Fetched]:
    """Return what ``fetcher`` holds for the ``active`` partitions, without waiting.

    Parameters
    ----------
    in_bulk
        Topics for which it is False get aiokafka's own ``ConsumerRecord`` instances.

    Raises
    ------
    KafkaError
        What the broker answered for a partition, once the records before it were handed out.
    """
    subscriptions = fetcher._subscriptions
    fetched: list[Fetched] = []
    for tp in list(fetcher._records):
        if tp not in active:
            if not subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        result = fetcher._records[tp]
        if type(result) is not FetchResult:  # an error
            if not fetched:
                _release(fetcher, tp)
                result.check_raise()
            break
        records = (take_records if in_bulk(tp.topic) else FetchResult.getall)(result, max_records)
        if not result.has_more():
            _release(fetcher, tp)
        state = subscriptions.subscription.assignment.state_value(tp)
        if state is not None:
            position = state.position if state.has_valid_position else -1
            fetched.append(Fetched(tp, records, position, state.highwater or 0))
    return fetched


def _release(fetcher: Any, tp: TopicPartition) -> None:
    """Let the fetcher ask for more of ``tp``."""
    del fetcher._records[tp]
    fetcher._notify(fetcher._wait_consume_future)


class _Patience:
    """Waits before the next fetch where the broker answered an empty one at once instead of holding it.

    The embedded broker does that; a consumer would keep it, and itself, busy with nothing. The longer nothing
    came, the longer the wait, up to ``MAX_PAUSE_S``. A broker that holds fetches is never waited for.
    """

    def __init__(self, fetcher: Any) -> None:
        self._fetch = fetcher._proc_fetch_request
        self._held_s = fetcher._fetch_max_wait_ms / 2000
        self._last_data = time.monotonic()

    async def __call__(self, assignment: Any, node_id: int, request: Any) -> bool:
        began = time.monotonic()
        try:
            got: bool = await self._fetch(assignment, node_id, request)
            now = time.monotonic()
            if got:
                self._last_data = now
            elif now - began < self._held_s:
                await asyncio.sleep(min(MAX_PAUSE_S, max(MIN_PAUSE_S, (now - self._last_data) / 10)))
        except asyncio.CancelledError:  # the fetcher closes or lost its assignment, and expects an answer
            return False
        return got


def be_patient(consumer: Any) -> None:
    """Keep a started ``AIOKafkaConsumer`` from asking again and again a broker that holds no fetches."""
    consumer._fetcher._proc_fetch_request = _Patience(consumer._fetcher)
