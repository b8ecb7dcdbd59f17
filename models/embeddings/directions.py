"""The fixed directions of features: what a feature's embedding is before anything was learnt about it.

Every feature has a 64-bit key, and a Gaussian vector drawn from it (Achlioptas 2003: random projections keep
inner products). Its length is about 1. The kind of a feature says how much its direction counts.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.gaussian import gaussian_rows

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

_ODD = 0x9E3779B97F4A7C15


def directions(keys: U64) -> F32:
    """Return the direction of each key, float32 ``(n, DIM)``."""
    out = np.empty((len(keys), DIM), np.float32)
    gaussian_rows(np.ascontiguousarray(keys, np.uint64), out, float(np.sqrt(DIM)))
    return out


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


@lru_cache(maxsize=4096)
def key_of(kind: str, id_: int) -> np.uint64:
    """Return the feature key of one id; see ``keys_of``."""
    out: np.uint64 = keys_of(kind, np.array([id_], np.uint64))[0]
    return out
