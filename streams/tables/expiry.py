"""Expiry: deletes the rows of a partition that are idle for too long. Pure.

Rows are looked at in pieces: all of them once in ``LAP_S``. A row is deleted when both the newest event of
the partition and the clock are more than the time to live past the row's newest event. So neither a record
that is dated far ahead nor a wrong clock deletes anything alone.
"""

from __future__ import annotations

import numpy as np

from headrace.streams.tables.changes import U64
from headrace.streams.tables.partition import StatePartition

#: Time in which all rows are looked at, s; and shortest time between two pieces.
LAP_S, PAUSE_S = 300.0, 1.0
#: Largest piece, as a share of all rows.
MOST = 0.1
#: Before every time, ms.
_LONG_AGO = -(2**62)


class Expiry:
    """Deletes old rows of one partition, piece by piece.

    Parameters
    ----------
    ttl_ms
        A row that is idle for longer is deleted.
    since
        Monotonic time now, s.

    Attributes
    ----------
    newest
        Largest ``updated`` of the rows looked at so far, ms.
    """

    def __init__(self, ttl_ms: int, since: float) -> None:
        self.newest = _LONG_AGO
        self._ttl_ms = ttl_ms
        self._looked = since
        self._done = 0.0

    def look(self, part: StatePartition, now_ms: int, monotonic: float) -> U64:
        """Delete the old ones among the next rows; return their keys, uint64 ``(n,)``.

        Parameters
        ----------
        part
            The partition, the same one in every call.
        now_ms
            Time of day, ms.
        monotonic
            Monotonic time, s: how long ago the last call was decides how many rows are looked at.
        """
        passed = monotonic - self._looked
        if passed < PAUSE_S:
            return np.zeros(0, np.uint64)
        self._looked = monotonic
        share = self._done, min(1.0, self._done + min(passed / LAP_S, MOST))
        self._done = share[1] % 1.0
        updated = part.rows.part(share)["updated"]
        if len(updated):
            self.newest = max(self.newest, int(updated.max()))
        return part.expire(max(min(self.newest, now_ms) - self._ttl_ms, _LONG_AGO), share)
