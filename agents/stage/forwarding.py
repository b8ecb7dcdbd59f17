"""Sends records on that are in the wrong partition or have no key; or refuses them, as the settings say.

A record is acknowledged in its own partition only when it is durable in the right one.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, TypeAlias

import numpy as np

from headrace.agents.stage.drive import all_of
from headrace.agents.wiring import Wiring
from headrace.streams.errors import RejectedError
from headrace.streams.topics.murmur2 import partitions_of_keys, partitions_of_parts
from headrace.streams.topics.placement import FORWARDED, Origin, origin_of
from headrace.streams.topics.sent_on import SentOn
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.record_list import RecordList

log = logging.getLogger(__name__)

#: Shortest time between two log lines.
QUIET_S = 30.0

#: Records by topic and partition.
Taken: TypeAlias = dict[tuple[str, int], SentOn]


class Forwarding:
    """The records to be sent on, by topic and partition, in order.

    Attributes
    ----------
    refuses
        Whether none is sent on.
    count
        Records sent on so far, by topic.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._partitions = wiring.settings.partitions
        self.refuses = wiring.settings.wrong_partition == "refuse"
        self._out: Taken = {}
        self.count: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._told_at = -QUIET_S

    def add(self, batch: RecordBatch, record: Any, key: bytes) -> None:
        """Send a record of a batch on to the partition of ``key`` with the next flush.

        Raises
        ------
        RejectedError
            When such records are refused, or this one was sent on before.
        """
        if self.refuses or origin_of(record) is not None:
            raise RejectedError(
                "wrong_partition", "", "the record's key belongs in another partition (murmur2)"
            )
        headers = [header for header in record.headers if header[0] != FORWARDED]
        headers.append(Origin(batch.topic, batch.partition, record.offset + batch.base).header())
        (partition,) = partitions_of_keys([key], self._partitions).tolist()
        self._of(batch.topic, partition).add_one(key, record.value, record.timestamp, headers)
        self.count[batch.topic] += 1

    def add_many(self, batch: RecordBatch, records: RecordList) -> None:
        """Send records of a batch on to the partitions of their keys, without a look at each.

        All have a key and none was sent on before. Records are not refused here: see ``refuses``.
        """
        partitions = partitions_of_parts(records.payload, records.parts, self._partitions)
        for partition in np.unique(partitions).tolist():
            some = records.where(partitions == partition)
            place = f"{batch.topic}/{batch.partition}"
            self._of(batch.topic, partition).add(some.payload, some.fields, place, batch.base)
        self.count[batch.topic] += len(records)

    def _of(self, topic: str, partition: int) -> SentOn:
        records = self._out.get((topic, partition))
        if records is None:
            records = self._out[topic, partition] = self._wiring.sender.sent_on()
        return records

    def __bool__(self) -> bool:
        return bool(self._out)

    def take(self) -> Taken:
        """Return the records added since the last call."""
        out, self._out = self._out, {}
        return out

    async def _send(self, topic: str, partition: int, records: SentOn) -> None:
        await self._wiring.sender.send_on(topic, records, partition=partition)

    async def send(self, taken: Taken) -> None:
        """Write taken records; return when the broker has acknowledged them."""
        await all_of(*(self._send(*place, records) for place, records in taken.items()))
        now = self._wiring.clock.monotonic()
        if taken and now - self._told_at >= QUIET_S:
            new = self.count - self._told
            self._told, self._told_at = self.count.copy(), now
            log.warning(
                "%s: these records had no key or were in the wrong partition, and were sent on; see: "
                "headrace producers",
                ", ".join(f"{count} of {topic}" for topic, count in sorted(new.items())),
                extra={"action": "forwarded", "count": new.total()},
            )
