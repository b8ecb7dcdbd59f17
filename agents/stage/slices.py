"""Slices: batches are applied for a few milliseconds at a time, so that replies go out in between."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

from headrace.streams.transport.batches import RecordBatch

#: Time that a slice of records may take, s; while no list is answered, too.
SLICE_S, LONG_S = 0.004, 0.05


class Pace:
    """How many records are applied in a given time."""

    def __init__(self) -> None:
        self._record_s = 100e-6

    def records(self, within_s: float) -> int:
        """Return how many records take about so long, at least one."""
        return max(1, int(within_s / self._record_s))

    def took(self, records: int, spent_s: float) -> None:
        """Note how long some records took."""
        self._record_s += 0.3 * (max(1e-6, spent_s / records) - self._record_s)


def cut(waiting: deque[RecordBatch], most: int) -> list[RecordBatch]:
    """Take the first ``most`` records from batches, in order; what is left stays there."""
    out = list[RecordBatch]()
    while waiting and most > 0:
        batch = waiting.popleft()
        if len(batch) > most:
            first, rest = (
                RecordBatch(batch.topic, batch.partition, batch.records[part], batch.base)
                for part in (slice(most), slice(most, None))
            )
            waiting.appendleft(rest)
            batch = first
        out.append(batch)
        most -= len(batch)
    return out


async def in_slices(
    batches: Iterable[RecordBatch],
    work: Callable[[list[RecordBatch]], None],
    pace: Pace,
    answering: Callable[[], bool] = lambda: True,
) -> None:
    """Apply batches, each in order, in slices.

    Parameters
    ----------
    work
        Applies some batches.
    pace
        Learns how long a record takes.
    answering
        Whether others wait for the loop. If not, slices are long.
    """
    waiting = deque(batches)
    while waiting:
        busy = answering()
        part = cut(waiting, pace.records(SLICE_S if busy else LONG_S))
        began = time.thread_time()
        work(part)
        spent = time.thread_time() - began
        pace.took(sum(map(len, part)), spent)
        await asyncio.sleep(spent if busy else 0)  # the others get half of the time, at least
