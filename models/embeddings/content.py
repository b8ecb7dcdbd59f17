"""Item vectors from content only: an item has its vector as soon as it is published.

The vector of an item is the weighted sum of the directions of its features (category, creator, tags, words of
the title) and of the publisher's own vector, scaled to length 1. Items that share features have similar
vectors. This is version 0 of the item tower; see ``headrace.models.embeddings.towers`` for the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from math import log2

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.directions import DIM, F32, KIND, U8, U64, UNSEEN, directions
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item

#: Factor of the publisher's own vector before anything was learnt.
OWN_WEIGHT = np.float32(1.0)
WORD = re.compile(r"\w{3,}")
_SEED = 0x6F776E


def content_features(item: Item) -> tuple[U64, U8]:
    """Return the keys of an item's content features, uint64 ``(n,)``, and their kinds, uint8 ``(n,)``.

    Each occurs once. The order is fixed, so that the sums of floats are, too.
    """
    features = named_features(item)
    keys = hash_many([f"{kind}:{text}" for kind, text in features])
    return keys, np.array([KIND[kind] for kind, _ in features], np.uint8)


def own_vector(item: Item) -> F32 | None:
    """Return the publisher's vector with ``DIM`` numbers, about as long as a direction; None without one.

    It is scaled to length 1, then projected by a fixed Gaussian matrix, one for each length of the list.
    """
    given = np.array(item.vector, np.float64)
    norm = float(np.sqrt(given @ given))
    if not norm > 0:
        return None
    out: F32 = (given / norm @ _projection(len(given))).astype(np.float32)
    return out


def item_vector(item: Item) -> F32:
    """Return the item's unit vector, float32 ``(DIM,)``; zeros for an item without any content."""
    keys, kinds = content_features(item)
    out = np.zeros(DIM, np.float32)
    for part in directions(keys) * UNSEEN[kinds, None]:
        out += part
    own = own_vector(item)
    return unit(out if own is None else out + OWN_WEIGHT * own)


def category_vector(categories: Sequence[str]) -> F32:
    """Return the unit vector of a user who likes these categories, float32 ``(DIM,)``."""
    out = np.zeros(DIM, np.float32)
    for direction in directions(hash_many([f"category:{category}" for category in categories])):
        out += direction
    return unit(out)


def category_key(category: str) -> int:
    """Return the feature key of a category; 0 for the empty text."""
    return hash64(f"category:{category}") if category else 0


def creator_key(creator_id: str) -> int:
    """Return the feature key of a creator; 0 for the empty text."""
    return hash64(f"creator:{creator_id}") if creator_id else 0


def unit(vector: F32) -> F32:
    """Return the vector scaled to length 1; zeros stay zeros."""
    norm = float(np.sqrt(vector @ vector))
    return vector / np.float32(norm) if norm > 0 else vector


def named_features(item: Item) -> list[tuple[str, str]]:
    """Return the content features of an item as kinds and texts, each once, in a fixed order."""
    words = set(WORD.findall(item.title.lower())) if item.title else set()
    return [
        *([("category", item.category)] if item.category else []),
        *([("creator", item.creator_id)] if item.creator_id else []),
        *(("tag", tag) for tag in sorted(set(item.tags)) if tag),
        *(("word", word) for word in sorted(words)),
        *([("duration", _duration(item.duration_ms))] if item.duration_ms else []),
    ]


def _duration(duration_ms: int) -> str:
    """Return the bucket of a duration: four for each doubling of it, up from a second."""
    return str(int(4 * log2(1 + duration_ms / 1000)))


@lru_cache(maxsize=8)
def _projection(length: int) -> npt.NDArray[np.float64]:
    """Return the Gaussian matrix ``(length, DIM)`` that keeps the length of a vector, on average."""
    rng = np.random.Generator(np.random.Philox(key=_SEED + length))
    out: npt.NDArray[np.float64] = rng.standard_normal((length, DIM)) / np.sqrt(DIM)
    return out
