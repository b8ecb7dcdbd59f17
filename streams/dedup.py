"""Recognise a producer's retries: the same event_id again within a window of stream time.

The *stream time* of a record is the largest record timestamp of its partition so far, its own included. A
record is a duplicate when the last record with the same id (accepted, or a duplicate itself) is at most one
window older in stream time:

    stream time   0 ....... 400 ....... 900 ............ 2000       window 1000
    id a          x         x?          x?               x          x? duplicate

The result depends only on the records, not on how they are batched. After a restart, first read again from
the first record that is younger than the stream time minus the window (or just as old).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.streams.last_seen import LastSeen

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

#: Stream time before the first record. A record may be dated before the epoch (-1: it has no timestamp); the
#: stream time is never negative.
NO_TIME = 0


class DedupWindow:
    """Ids (64-bit hashes) of one partition and when each was last seen.

    Memory is bounded by the ids of a window, about 50 bytes for each at a steady rate.

    Parameters
    ----------
    window_ms
        How long an id is remembered, ms of stream time; 0: every record is fresh and nothing is remembered.
    """

    def __init__(self, window_ms: int) -> None:
        self._enabled = window_ms > 0
        self._seen = LastSeen(max(0, window_ms))

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def nbytes(self) -> int:
        """Return the bytes allocated."""
        return self._seen.nbytes

    def fresh(self, ids: U64, stream_time: I64) -> Bool:
        """Return which records are not duplicates, bool ``(n,)``, and remember all of them.

        Parameters
        ----------
        ids
            Ids of valid records, in the order of their offsets, ``(n,)``.
        stream_time
            Stream time of each (see ``stream_times``), ms, never falling, ``(n,)``.
        """
        if not self._enabled:
            return np.ones(len(ids), np.bool_)
        return self._seen.fresh(np.ascontiguousarray(ids), np.ascontiguousarray(stream_time))


def stream_times(timestamps: I64, before: int = NO_TIME) -> I64:
    """Return the stream time of consecutive records of a partition, int64 ``(n,)``.

    Parameters
    ----------
    timestamps
        Record timestamps (ms) of all records, also those not accepted, ``(n,)``.
    before
        Stream time of the record before the first.
    """
    return np.maximum.accumulate(np.maximum(timestamps, max(before, NO_TIME)))
