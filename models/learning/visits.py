"""Users who return: which users an arm has shown lists to, by period of event time. Pure.

A stage of a rollout has periods of the same length; the first one begins with the stage. A user *comes* in a
period when an example of the user was shown in it. A user whom an arm has shown something in a period
*returns* when the user comes in the next one, whichever arm answers then. It is known how many return only
when the next period is over: users of later periods are not counted yet.

The counts follow from the set of examples alone: neither their order nor their cutting into batches matters,
and an example that is counted again changes nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from headrace.models.learning.sequential import CLUSTERS

#: What is totalled of an arm, by cluster: users of a period, and those of them who came in the next one.
RETURNS: Final = ("came", "returned")
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
_NOBODY: Final = np.zeros(0, np.uint64)


class Visits:
    """The users of both arms of a stage, by period.

    Needs 8 bytes for each user and period.

    Parameters
    ----------
    since
        When the stage began, ms.
    period_ms
        Length of a period, ms.

    Attributes
    ----------
    newest
        Number of the newest period that somebody came in; -1: nobody did.
    """

    def __init__(self, since: int, period_ms: int) -> None:
        self.since, self.period_ms, self.newest = since, period_ms, -1
        self._users: dict[tuple[int, int], U64] = {}  # (arm, period) -> keys, ascending
        self._counts: dict[int, I64] = {}  # period -> (2, len(RETURNS), CLUSTERS)

    def add(self, arm: I64, ts: I64, users: U64) -> None:
        """Note that users were shown something; ``ts`` (ms) is not before the stage. All are ``(n,)``."""
        if not len(ts):
            return
        period = (ts - self.since) // self.period_ms
        self.newest = max(self.newest, int(period.max()))
        for number in np.unique(period).tolist():
            for one in (0, 1):
                self._came(one, number, np.unique(users[(period == number) & (arm == one)]))

    def totals(self) -> I64:
        """Return int64 ``(2, len(RETURNS), CLUSTERS)``: by arm, of the periods whose next one is over."""
        out = np.zeros((2, len(RETURNS), CLUSTERS), np.int64)
        for period, counts in self._counts.items():
            if period + 1 < self.newest:
                out += counts
        return out

    def _came(self, arm: int, period: int, users: U64) -> None:
        """Note the users, ascending and each once, of an arm in a period."""
        known = self._of(arm, period)
        new = users[~_among(users, known)]
        if not len(new):
            return
        self._users[arm, period] = np.insert(known, np.searchsorted(known, new), new)
        after = _among(new, self._of(0, period + 1)) | _among(new, self._of(1, period + 1))
        self._count(period, arm, 0, new)
        self._count(period, arm, 1, new[after])
        first = new[~_among(new, self._of(1 - arm, period))]
        for before in (0, 1):
            self._count(period - 1, before, 1, first[_among(first, self._of(before, period - 1))])

    def _of(self, arm: int, period: int) -> U64:
        return self._users.get((arm, period), _NOBODY)

    def _count(self, period: int, arm: int, what: int, users: U64) -> None:
        if len(users):
            counts = self._counts.setdefault(period, np.zeros((2, len(RETURNS), CLUSTERS), np.int64))
            counts[arm, what] += np.bincount(cluster_of(users), minlength=CLUSTERS)


def _among(users: U64, known: U64) -> npt.NDArray[np.bool_]:
    """Return which users are among ``known``, which ascend."""
    if not len(known):
        return np.zeros(len(users), bool)
    at = np.minimum(np.searchsorted(known, users), len(known) - 1)
    found: npt.NDArray[np.bool_] = known[at] == users
    return found


def cluster_of(users: U64) -> I64:
    """Return the clusters of users, by their ids ``(n,)``: the highest bits."""
    return (users >> np.uint64(64 - (CLUSTERS - 1).bit_length())).astype(np.int64)
