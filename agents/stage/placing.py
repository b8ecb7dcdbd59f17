"""Decides for every record whether it is applied where it is: its key, its partition, the worker's clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.agents.partitions.origins import Origins
from headrace.agents.stage.forwarding import Forwarding
from headrace.agents.wiring import Wiring
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import check_key
from headrace.streams.messages.columns import CLOCK_SLACK_MS, EventBatch
from headrace.streams.messages.event_fields import AGAIN, ELSEWHERE, MISPLACED, RIGHT
from headrace.streams.messages.event_reader import ReadEvents
from headrace.streams.messages.schemas import Event, check_event
from headrace.streams.topics.murmur2 import partitions_of_keys
from headrace.streams.topics.placement import only_clears, origin_of, origins_of
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.record_list import RecordList, chosen

#: A record and why it is rejected.
Reject: TypeAlias = tuple[Any, RejectedError]


class Placing:
    """Sorts records: those to be applied, those sent on to another partition, those to be rejected."""

    def __init__(self, wiring: Wiring, forwarding: Forwarding) -> None:
        self._wiring = wiring
        self._settings = wiring.settings
        self._forwarding = forwarding

    def judge(self, batch: RecordBatch, record: Any, name: str, field: str, origins: Origins | None) -> int:
        """Return the verdict on a record; if it is in the wrong partition, send it on.

        Parameters
        ----------
        name, field
            The id that decides the partition, and the field it is from.
        origins
            Records from other partitions that were applied; None: they are applied whenever they come.

        Returns
        -------
        ``RIGHT``: it is to be applied; ``ELSEWHERE``: it is sent on, or only hides an older record there;
        ``AGAIN``: it was applied before.

        Raises
        ------
        RejectedError
            The key is another one, the timestamp is far ahead, or records in the wrong partition are refused.
        """
        if record.key:
            check_key(record, field, name)
        self._check_clock(record)
        if (
            not record.key
            or partitions_of_keys([record.key], self._settings.partitions)[0] != batch.partition
        ):
            if not only_clears(record):
                self._forwarding.add(batch, record, name.encode())
            return ELSEWHERE
        origin = origin_of(record)
        if origins is None or origin is None or origin.topic != batch.topic or origins.fresh(origin):
            return RIGHT
        return AGAIN

    def _check_clock(self, record: Any) -> None:
        ahead = record.timestamp - self._wiring.clock.now_ms()
        if ahead > CLOCK_SLACK_MS:
            raise RejectedError(
                "from_the_future",
                "timestamp",
                f"the record's timestamp is {ahead} ms past the worker's clock",
            )

    def events(
        self, batch: RecordBatch, decoded: ReadEvents, events: EventBatch, origins: Origins
    ) -> list[Reject]:
        """Return the rejects; ``events.verdict`` is 0 afterwards for those to be applied alone."""
        rejects = list(decoded.rejects)
        places = np.flatnonzero(~events.right)
        sent_on_again(batch.topic, decoded.records, events, origins)
        if not len(places):
            return rejects
        records = decoded.records
        simple = self._simple(records, events)
        for run in np.split(places, np.flatnonzero(np.diff(simple[places])) + 1):  # all are sent on in order
            if simple[run[0]] and isinstance(records, RecordList):
                self._forwarding.add_many(batch, records.where(run))
                events.verdict[run] = ELSEWHERE
            else:
                rejects += self._one_by_one(batch, decoded, events, run, origins)
        return rejects

    def _simple(self, records: Sequence[Any], events: EventBatch) -> npt.NDArray[np.bool_]:
        """Return which events have a key, no header of ours, and nothing wrong but their place."""
        if self._forwarding.refuses or not isinstance(records, RecordList):
            return np.zeros(len(records), np.bool_)
        simple: npt.NDArray[np.bool_] = (
            (events.verdict == MISPLACED) & (records.parts[1] > 0) & ~events.sent_on
        )
        return simple

    def _one_by_one(
        self,
        batch: RecordBatch,
        decoded: ReadEvents,
        events: EventBatch,
        places: npt.NDArray[np.int64],
        origins: Origins,
    ) -> list[Reject]:
        """Set the verdicts on the events at ``places``; return the rejects."""
        rejects: list[Reject] = []
        for i, record in zip(places.tolist(), chosen(decoded.records, places), strict=True):
            try:
                if events.verdict[i] == MISPLACED and record.key:
                    self._forwarding.add(batch, record, record.key)
                    events.verdict[i] = ELSEWHERE
                else:
                    events.verdict[i] = self._unusual(batch, record, decoded.event(record), origins)
            except RejectedError as exc:
                rejects.append((record, exc))
        return rejects

    def _unusual(self, batch: RecordBatch, record: Any, event: Event, origins: Origins) -> int:
        """Return the verdict on an event, looked at alone; raise ``RejectedError`` with the reason."""
        if record.key:
            check_key(record, "user_id", event.user_id)
        check_event(event, record.timestamp, self._settings.lateness_ms, self._settings.future_ms)
        return self.judge(batch, record, event.user_id, "user_id", origins)


def sent_on_again(topic: str, records: Sequence[Any], events: EventBatch, origins: Origins) -> None:
    """Note in ``events.verdict`` which right events were sent on a second time."""
    places = np.flatnonzero(events.right & events.sent_on)
    if not len(places):
        return
    partitions, offsets = origins_of(chosen(records, places), topic)
    ours = partitions >= 0
    fresh = origins.fresh_ones(topic, partitions[ours], offsets[ours])
    events.verdict[places[ours][~fresh]] = AGAIN
