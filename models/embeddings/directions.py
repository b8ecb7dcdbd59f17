"""The fixed directions of features: what a feature's embedding is before anything was learnt about it.

Every feature has a 64-bit key, and a Gaussian vector drawn from it (Achlioptas 2003: random projections keep
inner products). Its length is about 1. The kind of a feature says how much its direction counts.
"""

from __future__ import annotations

from threading import Lock

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.key_index import KeyIndex

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

DIM = 64
#: Kinds of features. The position is the code of a kind in arrays, so the order must not change.
KINDS = ("category", "creator", "tag", "word", "duration", "item", "country", "device")
KIND = {name: code for code, name in enumerate(KINDS)}
#: By kind, the factor of a feature's direction while nothing was learnt about it. 0: it says nothing yet.
UNSEEN = np.array([1.0, 0.7, 0.6, 0.3, 0.0, 0.0, 0.0, 0.0], np.float32)
#: By kind, the factor of the direction that learning starts from.
START = np.array([1.0, 0.7, 0.6, 0.3, 0.1, 0.3, 0.3, 0.3], np.float32)

_CACHED = 200_000
_ODD = 0x9E3779B97F4A7C15


class Directions:
    """Directions by feature key; those asked for lately are kept. Threads may share it.

    Parameters
    ----------
    room
        Largest number of directions that are kept; 256 bytes each. When it is full, it starts again.
    """

    def __init__(self, room: int = _CACHED) -> None:
        self._room = room
        self._index = KeyIndex()
        self._kept = np.empty((0, DIM), np.float32)
        self._philox = np.random.Philox(key=1)
        self._draw = np.random.Generator(self._philox).standard_normal
        self._lock = Lock()

    def of(self, keys: U64) -> F32:
        """Return the direction of each key, float32 ``(n, DIM)``."""
        keys = np.ascontiguousarray(keys, np.uint64)
        with self._lock:
            if len(self._index) + len(keys) > self._room:
                self._index = KeyIndex()
            rows, new = self._index.take(keys)
            if self._index.used > len(self._kept):
                grown = np.empty((self._index.used * 5 // 4 + 64, DIM), np.float32)
                grown[: len(self._kept)] = self._kept
                self._kept = grown
            for at, key in zip(rows[new].tolist(), keys[new].tolist(), strict=True):
                self._fill(self._kept[at], key)
            return self._kept[rows]

    def _fill(self, out: F32, key: int) -> None:
        """Draw as a new ``Philox(key=key)`` does: to set the state takes a fifth of the time."""
        self._philox.state = {
            "bit_generator": "Philox",
            "state": {"counter": np.zeros(4, np.uint64), "key": np.array([key, 0], np.uint64)},
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        self._draw(DIM, dtype=np.float32, out=out)
        out /= np.float32(np.sqrt(DIM))


#: The directions of this process.
DIRECTIONS = Directions()


def keys_of(kind: str, ids: U64) -> U64:
    """Return the feature keys of ids (``hash64``) of a kind, uint64 of the same shape; 0 stays 0.

    For features that are named by an id alone: item, country, device. Categories and creators have the key of
    their text (``headrace.models.embeddings.content``).
    """
    mixed = np.asarray(ids, np.uint64) ^ np.uint64((KIND[kind] + 1) * _ODD % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    out: U64 = np.where(np.asarray(ids) == 0, np.uint64(0), np.maximum(mixed, np.uint64(1)))
    return out
