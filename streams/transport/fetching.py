"""Plans the fetches of an aiokafka consumer, and takes fetched records out of it as lists.

The answers are aiokafka's; in workers, a loop of our own finds the records in them (``gathering``)::

    fetch -> fetcher._records   one answer per partition: raw bytes, at most ``max_partition_fetch_bytes``
          -> drain()            lists of records; each partition in turn gives a bounded number
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from operator import methodcaller
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.errors import CorruptRecordException

from .plain_gathering import PlainGathering

#: Of every consumer of ours: records of aborted transactions count as never sent, and records of a
#: transaction that is still open are not read before its end.
ISOLATION = "read_committed"
#: Longest wait for an answer that does not wait for data: connecting, positions, offsets.
REQUEST_TIMEOUT_S = 30.0
#: How long the broker may hold a fetch that leaves partitions out because they have unread records. The wait
#: is short, so that they are in the next fetch soon after their records are read.
PARTIAL_WAIT_MS = 20
#: A list of records ends with the record batch that makes it larger than this (bytes, decompressed).
MAX_LIST_BYTES = 8 * 1024 * 1024


class Fetched(NamedTuple):
    """Records of one partition, the position after them, and the partition's end offset (high watermark).

    ``records`` is empty when the fetched part of the log has no records for readers: transaction markers,
    aborted transactions, batches emptied by compaction. ``absent`` is the number of offsets whose records
    compaction has removed.
    """

    tp: TopicPartition
    records: Sequence[Any]
    position: int
    highwater: int
    absent: int = 0


def take_records(result: Any, max_records: int) -> Sequence[Any]:
    """Return the next records of one ``FetchResult``, at most ``max_records``.

    aiokafka makes two objects of each record. Here whole record batches are parsed: in workers by a compiled
    loop (``gathering``), else by aiokafka's. Records past ``max_records`` stay in ``result`` until the next
    call.

    Raises
    ------
    CorruptRecordException
        When the checksum of a batch is wrong, or its records are.
    """
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return []
    part = result._partition_records
    gathering = getattr(part._records, "gathering", PlainGathering)(result.__dict__.pop("_parsed", ()))
    is_whole = getattr(part._records, "is_whole", methodcaller("validate_crc"))
    position = part.next_fetch_offset
    while gathering.count < max_records and gathering.bytes < MAX_LIST_BYTES and part._records.has_next():
        batch = part._records.next_batch()
        absent = max(0, batch.base_offset - max(position, result.__dict__.get("_parsed_to", 0)))
        if part._check_crcs and not is_whole(batch):
            raise CorruptRecordException(f"Invalid CRC - {result._topic_partition}")
        if not _is_left_out(part, batch):
            absent += batch.next_offset - batch.base_offset - gathering.add(batch, position)
        result._parsed_to = batch.next_offset
        result._absent = result.__dict__.get("_absent", 0) + absent
    records = gathering.records()
    if len(records) > max_records:
        result._parsed = records[max_records:]
        records = records[:max_records]
        part.next_fetch_offset = int(result._parsed[0].offset)
    else:
        part.next_fetch_offset = result._parsed_to
    result._update_position()
    if not part._records.has_next() and "_parsed" not in result.__dict__:
        result._partition_records = None
    return records


def _is_left_out(part: Any, batch: Any) -> bool:
    """Return whether a batch has nothing for readers: a transaction's marker, or records of an aborted one.

    Batches come in order: an abort marker ends the aborted transaction of its producer. As aiokafka's
    ``PartitionRecords``, which goes through records one by one.
    """
    if part._isolation_level != READ_COMMITTED or not batch.is_transactional:
        return bool(batch.is_control_batch)
    part._consume_aborted_up_to(batch.base_offset)
    if batch.is_control_batch:
        if part._contains_abort_marker(batch):
            part._aborted_producers.discard(batch.producer_id)
        return True
    return bool(batch.producer_id in part._aborted_producers)


def drain(
    fetcher: Any,
    active: Container[Any],
    max_records: int | Callable[[str], int],
    one_by_one: Callable[[str], bool] = lambda topic: False,
    *,
    max_single: int = 500,
    budget: int | None = None,
) -> list[Fetched]:
    """Return records that ``fetcher`` holds for the ``active`` partitions, without waiting.

    A partition gives at most ``max_records`` and is then read after all others, so that a partition with a
    backlog does not delay them for longer.

    Parameters
    ----------
    fetcher
        aiokafka's ``Fetcher``.
    active
        Partitions to read. Records of other assigned partitions stay in the fetcher.
    max_records
        Most records of one partition; or what returns it for a topic.
    one_by_one
        For topics for which it returns True: return at most ``max_single`` records, as aiokafka's
        ``ConsumerRecord``.
    budget
        Once all partitions together gave this many records, the others wait for the next call; None: no
        limit.

    Raises
    ------
    KafkaError
        When the broker answered with an error for a partition, after the records before it were returned.
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
        most = max_records(tp.topic) if callable(max_records) else max_records
        records = result.getall(max_single) if one_by_one(tp.topic) else take_records(result, most)
        count += len(records)
        if result.has_more():
            fetcher._records.move_to_end(tp)
        else:
            _release(fetcher, tp)
        state = subscriptions.subscription.assignment.state_value(tp)
        if state is not None:
            position = state.position if state.has_valid_position else -1
            absent = result.__dict__.pop("_absent", 0)
            fetched.append(Fetched(tp, records, position, state.highwater or 0, absent))
    return fetched


def _release(fetcher: Any, tp: TopicPartition) -> None:
    """Let the fetcher fetch more of ``tp``."""
    del fetcher._records[tp]
    fetcher._notify(fetcher._wait_consume_future)


class _Plan:
    """Decides what is fetched next, so that a partition that is not being read delays no other.

    aiokafka sends a broker one fetch at a time, and none for 100 ms while it holds unread records of that
    broker. Here unread records of partitions that are not active (their agent is slow) delay nothing. The
    other partitions are fetched at once, with a short wait at the broker (``PARTIAL_WAIT_MS``). A partition
    with unread records is left out of the fetch: at most one answer is held for it. The records of paused
    partitions are dropped.
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
                del fetcher._records[tp]  # the position has not moved: they are fetched again after `resume`
            else:
                result._backoff = 0
        longest = PARTIAL_WAIT_MS if fetcher._records else self._wait_ms
        fetcher._fetch_max_wait_ms = min(self._wait_ms, longest)
        return self._actions(assignment)


def plan_fetches(consumer: Any, active: Callable[[], Container[Any]]) -> None:
    """Make a started ``AIOKafkaConsumer`` fetch active partitions without waiting for the others.

    Parameters
    ----------
    active
        Returns the partitions that are being read now.
    """
    consumer._fetcher._get_actions_per_node = _Plan(consumer._fetcher, active)


def poke(fetcher: Any) -> None:
    """Wake the fetcher, to plan the next fetch again, and the reader that waits for records."""
    fetcher._notify(fetcher._wait_consume_future)
    for waiter in list(fetcher._fetch_waiters):
        fetcher._notify(waiter)
