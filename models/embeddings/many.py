"""Content vectors of many items at once: the same numbers as ``item_vector``, a direction drawn once a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import xxhash

from headrace.models.embeddings.bags import add_bags
from headrace.models.embeddings.content import OWN_WEIGHT, features_of, item_vector, own_vector
from headrace.models.embeddings.directions import DIM, F32, KIND, UNSEEN, directions
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import Item


class ItemVectors(Protocol):
    """What gives items their vectors.

    Attributes
    ----------
    version
        Vectors of different versions must not be compared.
    """

    @property
    def version(self) -> str:
        """See ``Attributes``."""

    def item_vectors(self, items: Sequence[Item]) -> F32:
        """Return unit vectors, float32 ``(n, DIM)``; zeros for an item without any content."""


class ContentVectors:
    """Vectors from content only, version 0 of the item tower.

    Attributes
    ----------
    version
        Another text when vectors, or hashes of ids, are computed in another way.
    """

    def __init__(self) -> None:
        probe = Item("probe", 0, "a title with words", "category", ["tag"], "creator")
        rounded = np.rint(item_vector(probe) * 100).astype(np.int8)
        self.version = f"{DIM}-{xxhash.xxh3_64_hexdigest(rounded.tobytes())}"

    def item_vectors(self, items: Sequence[Item]) -> F32:
        """Return unit vectors, float32 ``(n, DIM)``; zeros for an item without any content."""
        return item_vectors(items)


def item_vectors(items: Sequence[Item]) -> F32:
    """Return ``item_vector`` of each item, float32 ``(n, DIM)``."""
    numbers: dict[tuple[str, str], int] = {}
    members, bounds = [], [0]
    for item in items:
        members += [numbers.setdefault(feature, len(numbers)) for feature in features_of(item)]
        bounds.append(len(members))
    keys = hash_many([f"{kind}:{text}" for kind, text in numbers])
    kinds = np.array([KIND[kind] for kind, _ in numbers], np.int64)
    rows = directions(keys) * UNSEEN[kinds, None]
    out = np.zeros((len(items), DIM), np.float32)
    ones = np.ones(len(members), np.float32)
    add_bags(rows, np.array(members, np.int64), ones, np.array(bounds, np.int64), out)
    for i, item in enumerate(items):
        if item.vector and (own := own_vector(item)) is not None:
            out[i] += OWN_WEIGHT * own
    norms = np.sqrt(np.array([row @ row for row in out], np.float32))
    return np.divide(out, norms[:, None], out=out, where=norms[:, None] > 0)
