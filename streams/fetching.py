"""Taking whole lists of records out of an aiokafka consumer, as its C parser made them."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException

#: Longest wait for an answer that needs no data: connecting, positions, offsets.
REQUEST_TIMEOUT_S = 30.0


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
