"""Reads the records of `events` as columns, without a Python object of each.

    RecordList -> scan_events    almost all of them: columns straight from the bytes
               -> Decoder        those that the scan is not certain of: one by one, with reasons of rejects
    other lists -> Decoder       all of them

Both ways give the same columns, verdicts and rejects, in the order of the records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.columns import KIND, EventBatch, Limits, event_batch, read_events, rules_of
from headrace.streams.messages.event_scan import scan_events
from headrace.streams.messages.schemas import Event
from headrace.streams.topics.placement import FORWARDED
from headrace.streams.transport.record_list import RecordList

I64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class ReadEvents:
    """The records of a batch, read.

    Attributes
    ----------
    records
        Those with an event, in the order of the batch.
    rejects
        Every other record, with the reason.
    event
        Returns the event of one of ``records``: it is decoded then.
    """

    records: Sequence[Any]
    rejects: list[tuple[Any, RejectedError]]
    event: Callable[[Any], Event]


class EventReader:
    """Reads events.

    Parameters
    ----------
    max_bytes
        Larger values are rejected.
    limits
        What decides the verdicts.
    """

    def __init__(self, max_bytes: int, limits: Limits) -> None:
        self._decoder = Decoder(Event, max_bytes)
        self._max_bytes = max_bytes
        self._limits = limits

    def read(self, records: Sequence[Any], partition: int, now_ms: int) -> tuple[ReadEvents, EventBatch]:
        """Return the accepted records and the rejects, and the columns of the events.

        Parameters
        ----------
        records
            Records of one partition of `events`.
        partition
            Its number.
        now_ms
            The worker's clock, ms since the epoch.
        """
        if not isinstance(records, RecordList):
            decoded = self._decoder.batch(records)
            events = read_events(decoded.values, decoded.records, partition, self._limits, now_ms)
            return ReadEvents(decoded.records, decoded.rejects, self._decoder.one), events
        arrays, found = scan_events(
            records.payload,
            records.parts,
            records.offsets,
            records.timestamps,
            KIND,
            max_bytes=self._max_bytes,
            **rules_of(partition, self._limits, now_ms),
        )
        arrays = (*arrays[:-1], records.with_header(FORWARDED))
        rejects: list[Any] = []
        if not found.all():
            rejects = self._decode(records, arrays, found, partition, now_ms)
        if rejects:
            records = records.where(found)
            arrays = tuple(array[found] for array in arrays)
        return ReadEvents(records, rejects, self._decoder.one), event_batch(arrays)

    def _decode(
        self,
        records: RecordList,
        arrays: tuple[npt.NDArray[Any], ...],
        found: npt.NDArray[np.bool_],
        partition: int,
        now_ms: int,
    ) -> list[Any]:
        """Decode the records that were not found, into ``arrays`` and ``found``; return the rejects."""
        places = np.flatnonzero(~found)
        doubtful = list(records.where(places))
        decoded = self._decoder.batch(doubtful)
        rejected = {id(record) for record, _ in decoded.rejects}
        taken = places[[id(record) not in rejected for record in doubtful]]
        events = read_events(decoded.values, decoded.records, partition, self._limits, now_ms)
        for array, column in zip(arrays, events.arrays(), strict=True):
            array[taken] = column
        found[taken] = True
        return decoded.rejects
