"""Numbers for values that many items share: names, and sets of flags or countries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from headrace.serving.snapshot.items import Ragged, texts
from headrace.streams.tables.key_index import KeyIndex

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


class Names:
    """Numbers for hashes of names; number 0 is that of no name (hash 0)."""

    def __init__(self) -> None:
        self._index, self._hashes = KeyIndex(), list[int]()
        self.numbers(np.zeros(1, np.uint64))

    def numbers(self, hashes: U64) -> U32:
        """Return the number of each hash, uint32 ``(n,)``."""
        numbers, new = self._index.take(np.ascontiguousarray(hashes, np.uint64))
        self._hashes += hashes[new].tolist()
        return numbers.astype(np.uint32)

    def columns(self, names: Mapping[int, str]) -> tuple[U64, Ragged[np.uint8]]:
        """Return hash and text by number; the text is empty where ``names`` has none."""
        return np.array(self._hashes, np.uint64), texts([names.get(h, "") for h in self._hashes])


class FeatureNumbers:
    """Numbers for the features of items; about 30 bytes for each different one."""

    def __init__(self) -> None:
        self._index = KeyIndex()
        self._keys, self._kinds = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint8)]

    def numbers(self, keys: U64, kinds: U8) -> U32:
        """Return the number of each feature, uint32 ``(n,)``."""
        numbers, new = self._index.take(np.ascontiguousarray(keys, np.uint64))
        self._keys.append(keys[new])
        self._kinds.append(kinds[new])
        return numbers.astype(np.uint32)

    def columns(self) -> tuple[U64, U8]:
        """Return key and kind by number."""
        return np.concatenate(self._keys), np.concatenate(self._kinds)


class Sets:
    """Numbers for sets of ids; number 0 is that of the empty set."""

    def __init__(self) -> None:
        self._numbers = {b"": 0}

    def numbers(self, sets: Ragged[np.uint64]) -> U32:
        """Return the number of each set, uint32 ``(n,)``."""
        out = np.zeros(len(sets), np.uint32)
        raw, bounds = np.ascontiguousarray(sets.values).tobytes(), (sets.bounds * 8).tolist()
        for i in np.flatnonzero(np.diff(sets.bounds)).tolist():
            out[i] = self._numbers.setdefault(raw[bounds[i] : bounds[i + 1]], len(self._numbers))
        return out

    def columns(self) -> Ragged[np.uint64]:
        """Return the sets by number."""
        sizes = [len(raw) // 8 for raw in self._numbers]
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]).astype(np.int64)
        return Ragged(np.frombuffer(b"".join(self._numbers), np.uint64), bounds)
