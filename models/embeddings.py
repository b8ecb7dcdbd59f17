"""Item vectors from content only: an item has its vector as soon as it is published.

Feature hashing into a dense space: every feature (category, creator, tag, word of the title) has a fixed
Gaussian vector, drawn from its own hash. The vector of an item is the weighted sum of those, scaled to length
1. Items that share features have similar vectors (Achlioptas 2003: random projections keep inner products).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item

F32 = npt.NDArray[np.float32]

DIM = 64
_WEIGHTS = {"category": 1.0, "creator": 0.7, "tag": 0.6, "word": 0.3}
_WORD = re.compile(r"\w{3,}")


@lru_cache(maxsize=200_000)
def _direction(feature: str) -> F32:
    rng = np.random.Generator(np.random.Philox(key=hash64(feature)))
    vector: F32 = rng.standard_normal(DIM, dtype=np.float32) / np.float32(np.sqrt(DIM))
    return vector


def _features(item: Item) -> list[tuple[str, str]]:
    words = set(_WORD.findall(item.title.lower())) if item.title else set()
    return [
        *([("category", item.category)] if item.category else []),
        *([("creator", item.creator_id)] if item.creator_id else []),
        *(("tag", tag) for tag in sorted(set(item.tags)) if tag),
        *(("word", word) for word in sorted(words)),
    ]


def item_vector(item: Item) -> F32:
    """Return the item's unit vector, float32 ``(DIM,)``; zeros for an item without any content."""
    out = np.zeros(DIM, np.float32)
    for kind, text in _features(item):
        out += _WEIGHTS[kind] * _direction(f"{kind}:{text}")
    return unit(out)


def category_vector(categories: Sequence[str]) -> F32:
    """Return the unit vector of a user who likes these categories, float32 ``(DIM,)``."""
    out = np.zeros(DIM, np.float32)
    for category in categories:
        out += _direction(f"category:{category}")
    return unit(out)


def unit(vector: F32) -> F32:
    """Return the vector scaled to length 1; zeros stay zeros."""
    norm = float(np.sqrt(vector @ vector))
    return vector / np.float32(norm) if norm > 0 else vector
