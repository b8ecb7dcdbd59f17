"""What an aiokafka consumer asks for, and taking whole lists of records out of it, as its C parser made them.

fetch -> fetcher._records   one answer per partition: raw bytes, at most ``max_partition_fetch_bytes``
      -> drain()            lists of records, a bounded share of each partition, in turn
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException

#: Longest wait for an answer that needs no data: connecting, positions, offsets.
REQUEST_TIMEOUT_S = 30.0
#: How long a fetch may be held from which partitions with unread records are left out: they are to be part of
#: the next one soon after they have been read.
PARTIAL_WAIT_MS = 20
#: A list of records ends at the broker's batch that takes it past this many bytes of keys and values.
MAX_LIST_BYTES = 8 * 1024 * 1024
#: Records looked at to estimate the size of a broker's batch.
SAMPLES = 16


class Fetched(NamedTuple):
    """Records of one partition, its position after them, and its high watermark (the end offset).

    There are none where the log holds only what no reader gets: transaction markers, compacted batches.
    """

    tp: TopicPartition
    records: list[Any]
    position: int
    highwater: int


def take_records(result: Any, max_records: int) -> list[Any]:
    """Return the next records of one ``FetchResult`` as aiokafka's C records, ``max_records`` at most.

    aiokafka wraps each one in a dataclass, which costs three times what the parsing costs. Parsing is by the
    broker's batch; what exceeds ``max_records`` stays with ``result`` for the next call.
    """
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return []
    part = result._partition_records
    records: list[Any] = result.__dict__.pop("_parsed", [])
    position, size = part.next_fetch_offset, 0
    while len(records) < max_records and size < MAX_LIST_BYTES and part._records.has_next():
        batch = part._records.next_batch()
        if part._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {result._topic_partition}")
        if not batch.is_control_batch:
            chunk = list(batch)
            if chunk and chunk[0].offset < position:  # a batch is sent whole, also when asked from its middle
                chunk = [record for record in chunk if record.offset >= position]
            records.extend(chunk)
            size += _estimated_bytes(chunk)
        result._parsed_to = batch.next_offset
    if len(records) > max_records:
        result._parsed = records[max_records:]
        records = records[:max_records]
        part.next_fetch_offset = result._parsed[0].offset
    else:
        part.next_fetch_offset = result._parsed_to
    result._update_position()
    if not part._records.has_next() and "_parsed" not in result.__dict__:
        result._partition_records = None
    return records


def _estimated_bytes(records: list[Any]) -> int:
    sample = records[:: len(records) // SAMPLES + 1]
    size = sum(len(record.key or b"") + len(record.value or b"") for record in sample)
    return size * len(records) // max(1, len(sample))


def drain(
    fetcher: Any,
    active: Container[Any],
    max_records: int,
    one_by_one: Callable[[str], bool] = lambda topic: False,
    *,
    max_single: int = 500,
    budget: int | None = None,
) -> list[Fetched]:
    """Return what ``fetcher`` holds for the ``active`` partitions, without waiting.

    A partition gives ``max_records`` at most and then goes to the end of the line, so that one with a backlog
    never keeps others waiting for longer than that.

    Parameters
    ----------
    one_by_one
        Topics for which it is True give at most ``max_single`` of aiokafka's own ``ConsumerRecord``.
    budget
        Records of all partitions together after which the others wait for the next call; None = no limit.

    Raises
    ------
    KafkaError
        What the broker answered for a partition, once the records before it were handed out.
    """
    subscriptions = fetcher._subscriptions
    fetched: list[Fetched] = []
    count = 0
    for tp in list(fetcher._records):
        if budget is not None and count >= budget:
            break
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
        records = result.getall(max_single) if one_by_one(tp.topic) else take_records(result, max_records)
        count += len(records)
        if result.has_more():
            fetcher._records.move_to_end(tp)
        else:
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


class _Plan:
    """What is asked for next, so that no partition waits for one that nobody reads.

    aiokafka sends a broker one fetch at a time, and none for 100 ms while it holds unread records of that
    broker. Here records that are not being read (their agent is slow) hold up nothing: the others are fetched
    at once, in fetches short enough for the one left out to come back soon. It is not fetched meanwhile: what
    is held for it is one answer. Nothing is held for paused partitions.
    """

    def __init__(self, fetcher: Any, active: Callable[[], Container[Any]]) -> None:
        self._fetcher = fetcher
        self._active = active
        self._actions = fetcher._get_actions_per_node
        self._wait_ms = fetcher._fetch_max_wait_ms

    def __call__(self, assignment: Any) -> Any:
        fetcher, active = self._fetcher, self._active()
        for tp, result in list(fetcher._records.items()):
            if tp in active:
                continue
            state = assignment.state_value(tp)
            if state is None or state.paused:
                del fetcher._records[tp]  # its position stands: it is fetched again when it goes on
            else:
                result._backoff = 0
        longest = PARTIAL_WAIT_MS if fetcher._records else self._wait_ms
        fetcher._fetch_max_wait_ms = min(self._wait_ms, longest)
        return self._actions(assignment)


def plan_fetches(consumer: Any, active: Callable[[], Container[Any]]) -> None:
    """Let a started ``AIOKafkaConsumer`` fetch for readers of some partitions that wait for nobody.

    Parameters
    ----------
    active
        Returns the partitions that are read at present.
    """
    consumer._fetcher._get_actions_per_node = _Plan(consumer._fetcher, active)


def poke(fetcher: Any) -> None:
    """Let the fetcher look again at what to ask for, and its reader at what there is."""
    fetcher._notify(fetcher._wait_consume_future)
    for waiter in list(fetcher._fetch_waiters):
        fetcher._notify(waiter)
