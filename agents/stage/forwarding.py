"""Sends records on that are in the wrong partition or have no key; or refuses them, as the settings say.

A record is acknowledged in its own partition only when it is durable in the right one.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from headrace.agents.wiring import Wiring
from headrace.streams.errors import RejectedError
from headrace.streams.topics.placement import FORWARDED, Origin, origin_of
from headrace.streams.topics.sender import OutRecord
from headrace.streams.transport.batches import RecordBatch

log = logging.getLogger(__name__)

#: Shortest time between two log lines.
QUIET_S = 30.0


class Forwarding:
    """The records to be sent on, by topic, in order.

    Attributes
    ----------
    count
        Records sent on so far, by topic.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._refuse = wiring.settings.wrong_partition == "refuse"
        self._out: dict[str, list[OutRecord]] = {}
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
        if self._refuse or origin_of(record) is not None:
            raise RejectedError(
                "wrong_partition", "", "the record's key belongs in another partition (murmur2)"
            )
        headers = [header for header in record.headers if header[0] != FORWARDED]
        headers.append(Origin(batch.topic, batch.partition, record.offset + batch.base).header())
        self._out.setdefault(batch.topic, []).append((key, record.value, record.timestamp, headers))
        self.count[batch.topic] += 1

    def __bool__(self) -> bool:
        return bool(self._out)

    def take(self) -> dict[str, list[OutRecord]]:
        """Return the records added since the last call, by topic."""
        out, self._out = self._out, {}
        return out

    async def send(self, taken: dict[str, list[OutRecord]]) -> None:
        """Write taken records; return when the broker has acknowledged them."""
        for topic, records in taken.items():
            await self._wiring.sender.send_keyed(topic, records)
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
