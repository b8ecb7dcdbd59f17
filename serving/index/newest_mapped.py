"""The newest items of a catalogue in files, with those that changed since in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.serving.index.newest import Newest
from headrace.serving.index.newest_rows import first_rows
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.streams.settings import DAY_MS

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_NONE = np.zeros(0, np.int32)


class MappedNewest:
    """The items of a snapshot in the order of their publication; see ``Newest``.

    A read looks at as many rows as are asked for, and at those before them that no longer count.

    Parameters
    ----------
    snapshot
        The snapshot. Rows that were withdrawn in its index are left out.
    """

    def __init__(self, snapshot: CatalogSnapshot) -> None:
        self._snapshot, column = snapshot, snapshot.column
        self._published: I64 = column["published"]
        self._all: I32 = column["newest"]
        self._groups: dict[str, tuple[I32, I64]] = {
            name: (column[f"newest_{name}"], column[f"{name}_starts"]) for name in ("category", "creator")
        }

    def newest(self, now: int, k: int, after: int | None = None) -> I32:
        """Return the ``k`` newest rows at ``now`` (ms), newest first, int32 ``(<=k,)``; ties by key.

        Those that were published at ``after`` (ms) or before are left out.
        """
        return self._first(self._all, now, k, after)

    def of_group(self, name: str, group: int, now: int, k: int, after: int | None = None) -> I32:
        """Return the newest rows of a ``category`` or ``creator`` (hash); see ``newest``."""
        number = self._snapshot.number_of(group)
        if number <= 0:
            return _NONE
        rows, starts = self._groups[name]
        return self._first(rows[starts[number] : starts[number + 1]], now, k, after)

    def _first(self, rows: I32, now: int, k: int, after: int | None) -> I32:
        return first_rows(rows, self._published, self._snapshot.index.withdrawn_bits, now, k, after)


class CatalogNewest:
    """The newest items of a catalogue; the methods are those of ``Newest``.

    Parameters
    ----------
    creator_ms, of_creator
        As of ``Newest``.

    Attributes
    ----------
    own
        Items in memory: all of them, or those that are not as in the snapshot.
    """

    def __init__(self, creator_ms: int = 30 * DAY_MS, of_creator: int = 50) -> None:
        self.own = Newest(creator_ms, of_creator)
        self._creator_ms, self._of_creator = creator_ms, of_creator
        self._mapped: MappedNewest | None = None
        self._column: dict[str, npt.NDArray[Any]] = {}

    def over(self, snapshot: CatalogSnapshot) -> None:
        """From now on, read a snapshot, too."""
        self._mapped, self._column = MappedNewest(snapshot), dict(snapshot.column)

    def newest(self, now: int, k: int) -> U64:
        """Return the ``k`` newest items at ``now`` (ms), newest first, uint64 ``(<=k,)``; ties by key."""
        own = self.own.newest(now, k)
        return own if self._mapped is None else self._both(own, self._mapped.newest(now, k), k)[0]

    def by_category(self, category: int, now: int, k: int) -> U64:
        """Return the newest items of a category; see ``newest``."""
        own = self.own.by_category(category, now, k)
        if self._mapped is None:
            return own
        return self._both(own, self._mapped.of_group("category", category, now, k), k)[0]

    def by_creator(self, creator: int, now: int, k: int) -> U64:
        """Return the newest items of a creator that are not too old; see ``newest``."""
        return self._by_creator(creator, now, k)[0]

    def of_creators(self, creators: Iterable[int], now: int, k: int) -> U64:
        """Return the newest items of several creators, not too many of one; see ``newest``."""
        each = dict.fromkeys(creators)
        if self._mapped is None:
            return self.own.of_creators(each, now, k)
        found = [self._by_creator(creator, now, min(k, self._of_creator)) for creator in each]
        found = [one for one in found if len(one[0])]
        if len(found) < 2:
            return found[0][0] if found else np.zeros(0, np.uint64)
        keys, times = (np.concatenate(columns) for columns in zip(*found, strict=True))
        return _ordered(keys, times, k)[0]

    def _by_creator(self, creator: int, now: int, k: int) -> tuple[U64, I64]:
        own = self.own.by_creator(creator, now, k)
        if self._mapped is None:
            return own, self.own.published(own)
        return self._both(own, self._mapped.of_group("creator", creator, now, k, now - self._creator_ms), k)

    def _both(self, own: U64, rows: I32, k: int) -> tuple[U64, I64]:
        """Return keys and times of the newest of both, each in order."""
        if not len(own):
            return self._column["key"][rows], self._column["published"][rows]
        keys = np.concatenate([own, self._column["key"][rows]])
        times = np.concatenate([self.own.published(own), self._column["published"][rows]])
        return _ordered(keys, times, k)


def _ordered(keys: U64, times: I64, k: int) -> tuple[U64, I64]:
    first = np.lexsort((keys, -times))[:k]
    return keys[first], times[first]
