"""Which of the items that arrived count: of items with one key, the last one, unless it was withdrawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.key_index import KeyIndex

Bool = npt.NDArray[np.bool_]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


class Arrivals:
    """Numbers items as they arrive; about 40 bytes a key."""

    def __init__(self) -> None:
        self._index = KeyIndex()
        self._last: I32 = np.full(1024, -1, np.int32)  # number of the arrival that counts
        self._check: U64 = np.zeros(1024, np.uint64)
        self._count = 0

    def add(self, keys: U64, checks: U64 | None = None) -> None:
        """Note items that arrive, uint64 ``(n,)``, in order; ``checks`` are other hashes of their ids."""
        numbers = np.arange(self._count, self._count + len(keys), dtype=np.int32)
        self._count += len(keys)
        places = self._note(keys, numbers)
        if checks is not None:
            self._check[places] = checks

    def withdraw(self, keys: U64) -> None:
        """Let items no longer count; keys that never arrived are noted, too."""
        self._note(keys, np.full(len(keys), -1, np.int32))

    def _note(self, keys: U64, numbers: I32) -> I64:
        places, _ = self._index.take(np.ascontiguousarray(keys, np.uint64))
        if self._index.used > len(self._last):
            more = max(self._index.used - len(self._last), len(self._last) // 4)
            self._last = np.concatenate([self._last, np.full(more, -1, np.int32)])
            self._check = np.concatenate([self._check, np.zeros(more, np.uint64)])
        self._last[places] = numbers  # of a key given twice, the last counts
        return places

    def known(self, keys: U64) -> Bool:
        """Return which keys arrived or were withdrawn, bool ``(n,)``."""
        known: Bool = self._index.find(np.ascontiguousarray(keys, np.uint64)) >= 0
        return known

    def clash(self, keys: U64, checks: U64) -> Bool:
        """Return for which keys an item counts that has another id (another check), bool ``(n,)``."""
        places = self._index.find(np.ascontiguousarray(keys, np.uint64))
        clash: Bool = (places >= 0) & (self._last[places] >= 0) & (self._check[places] != checks)
        return clash

    def counting(self) -> I64:
        """Return the numbers of the arrivals that count, int64, ascending."""
        numbers = self._last[: self._index.used]
        return np.sort(numbers[numbers >= 0]).astype(np.int64)
