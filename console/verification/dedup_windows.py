"""The dedup window of a partition as a worker rebuilds it when it takes the partition over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.agents.partitions.origins import Origins
from headrace.agents.partitions.users import UserPartition
from headrace.agents.stage.placing import sent_on_again
from headrace.console.verification.foreign_records import ForeignRecords
from headrace.models.state import shown, users
from headrace.streams.clock import now_ms
from headrace.streams.dedup import I64, U64, Bool, DedupWindow
from headrace.streams.messages.columns import Limits
from headrace.streams.messages.event_reader import EventReader
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import StatePartition
from headrace.streams.topics.grown_log import read_log_since
from headrace.streams.topics.growths import Growths, Segment
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import RecordBatch


class _Noted(DedupWindow):
    """A dedup window that also notes what is put into it."""

    def __init__(self, window_ms: int) -> None:
        super().__init__(window_ms)
        self.seen: dict[int, int] = {}

    def fresh(self, ids: U64, stream_time: I64) -> Bool:
        self.seen.update(zip(ids.tolist(), stream_time.tolist(), strict=True))
        return super().fresh(ids, stream_time)


class RebuiltWindow:
    """Reads events as a worker does after a take-over, and tells which ids its dedup window has."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._window_ms = settings.dedup_window_ms
        states = [StatePartition(partition, table()) for table in (users.new_table, shown.new_table)]
        self._part = UserPartition(states, settings)
        self._window = self._part.dedup = _Noted(settings.dedup_window_ms)
        self._settings = settings
        self._origins = Origins({})
        self._topic = Topics(settings).events

    def read(self, records: Sequence[Any], place: tuple[int, int] | None = None) -> None:
        """Note records of `events`, in their order.

        ``place`` is the partition that they are in, and how many there were; None: this one, and as now.
        """
        s = self._settings
        partition, count = place or (self._part.number, s.partitions)
        limits = Limits(count, s.lateness_ms, s.future_ms)
        reader = EventReader(s.max_event_bytes, limits)
        decoded, events = reader.read(records, partition, now_ms())
        sent_on_again(self._topic, decoded.records, events, self._origins)
        self._part.duplicates(records, events, (partition, count))

    def held(self, newest: int) -> dict[int, int]:
        """Return the ids held at the stream time ``newest`` (ms), and when each was last seen (ms).

        An id that was put into the window, but is not found there, is left out. The window is used up.
        """
        seen = {key: at for key, at in self._window.seen.items() if at >= newest - self._window_ms}
        keys = sorted(seen, key=seen.__getitem__)
        last = np.array([seen[key] for key in keys], np.int64) + self._window_ms
        fresh = self._window.fresh(np.array(keys, np.uint64), last)
        return {key: seen[key] for key, new in zip(keys, fresh.tolist(), strict=True) if not new}


async def rebuilt_window(
    settings: Settings, foreign: ForeignRecords, growths: Growths, partition: int, newest: int, end: int
) -> dict[int, int]:
    """Return the ids remembered after a take-over of a partition now, and when each was last seen (ms).

    Parameters
    ----------
    foreign
        Reads events of others.
    growths
        How often the partitions were made more.
    newest
        Stream time at the end of the partition, ms.
    end
        Offset after its last record.
    """
    window = RebuiltWindow(settings, partition)

    async def remember(batch: RecordBatch, segment: Segment) -> None:
        records = await foreign.read(batch.records)
        if len(records):
            window.read(records, (segment.partition, segment.of))

    since = max(0, newest - settings.dedup_window_ms)
    await read_log_since(settings, Topics(settings).events, partition, growths, since, end, remember)
    return window.held(newest)
