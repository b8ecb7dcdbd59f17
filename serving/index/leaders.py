"""The keys with the highest values of many, kept as values change. Its cost does not depend on how many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.rows import RowTable

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

#: A key, the most it can count without a change of its row, and what it counts now.
ENTRY = np.dtype([("key", "<u8"), ("most", "<f4"), ("value", "<f4")])
#: Ranks: a value and a key. The higher value is better, of equal ones the smaller key.
_LOWEST, _HIGHEST = (0.0, 0), (float("inf"), 0)


def top(keys: U64, score: F32, k: int) -> tuple[U64, F32]:
    """Return the ``k`` keys of the highest positive scores, highest first, and the scores; ties by key."""
    positive = score > 0
    keys, score = keys[positive], score[positive]
    if len(keys) > k:
        good = score >= np.partition(score, -k)[-k]  # all that tie for the last place
        keys, score = keys[good], score[good]
    order = np.lexsort((keys, -score))[:k]
    return keys[order], score[order]


def _better(value: F32, keys: U64, rank: tuple[float, int]) -> Bool:
    """Return which values and keys are better than a rank, bool ``(n,)``."""
    out: Bool = (value > rank[0]) | ((value == rank[0]) & (keys < np.uint64(rank[1])))
    return out


class Leaders:
    """The best of many keys by a value, found without looking at the others.

    A few thousand of the best keys are held, more than the list needs. Every key that is not held has a rank
    not better than the *floor*; a value that falls makes no key better, so this stays true without looking at
    it. When too many of the held keys have fallen below the floor, the owner of the values gives all of them
    again, a few at a time (a *scan*). Until it ends the list is still exact, while enough keys are above the
    floor.

    Parameters
    ----------
    size
        Length of the list.
    room
        Number of keys held after a trim; twice as many before it.

    Attributes
    ----------
    scanning
        Whether a scan has begun and not ended.
    """

    def __init__(self, size: int, room: int = 2048) -> None:
        self._size = size
        self._room = max(room, 2 * size)
        self._held = RowTable(ENTRY)
        self._floor = self._edge = _LOWEST
        self.scanning = False

    def __len__(self) -> int:
        return len(self._held)

    def keys(self) -> U64:
        """Return the keys that are held, uint64 ``(n,)``."""
        return self._held.keys()

    def put(self, keys: U64, most: F32, value: F32) -> None:
        """Take in the values of keys.

        Parameters
        ----------
        keys
            uint64 ``(n,)``.
        most
            The highest value that each key can get without another ``put``, float32 ``(n,)``.
        value
            The value of each key now, float32 ``(n,)``; not more than ``most``.
        """
        good = _better(most, keys, self._edge)
        if not good.all():
            self._held.drop(keys[~good])
            keys, most, value = keys[good], most[good], value[good]
        rows = self._held.take(keys)
        self._held.data["most"][rows], self._held.data["value"][rows] = most, value
        if len(self._held) > 2 * self._room:
            self._trim()

    def drop(self, keys: U64) -> None:
        """Forget keys that are gone."""
        self._held.drop(keys)

    def _trim(self) -> None:
        """Let go of all but the best keys."""
        held = self._held.data[self._held.rows()]
        order = np.lexsort((held["key"], -held["most"]))[self._room :]
        best = held[order[0]]
        self._edge = float(best["most"]), int(best["key"])
        if self._edge[0] > self._floor[0] or (
            self._edge[0] == self._floor[0] and self._edge[1] < self._floor[1]
        ):
            self._floor = self._edge
        self._held.drop(held["key"][order])

    def begin_scan(self) -> None:
        """Begin to take in all keys that count: each of them is ``put`` before ``end_scan``."""
        self._edge, self.scanning = _LOWEST, True

    def end_scan(self) -> None:
        """End a scan: every key was ``put`` since it began, or counts nothing."""
        self._floor, self.scanning = self._edge, False
        if self.low:  # many keys have events ahead of the present, and count little now: hold more
            self._room *= 2

    def restart(self) -> None:
        """Forget what is known of the keys that are not held: they may have become better. Begin a scan."""
        self._floor = _HIGHEST
        self.begin_scan()

    @property
    def low(self) -> bool:
        """Whether a scan should begin: few keys above the floor are left."""
        if self._floor == _LOWEST or self.scanning:
            return False
        return self._sure() < max(2 * self._size, self._room // 4)

    @property
    def exact(self) -> bool:
        """Whether ``top`` is the list of the best of all keys."""
        return self._floor == _LOWEST or self._sure() >= self._size

    def _sure(self) -> int:
        held = self._held.view()
        return int(np.count_nonzero((held["key"] != 0) & _better(held["value"], held["key"], self._floor)))

    def top(self) -> tuple[U64, F32]:
        """Return the keys of the highest positive values, highest first, and the values; ties by key."""
        held = self._held.view()
        keys = held["key"]
        live = keys != 0
        return top(keys[live], held["value"][live], self._size)
