"""Content vectors of many items at once: the same numbers as ``item_vector`` returns for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import xxhash

from headrace.models.embeddings.bags import add_bags
from headrace.models.embeddings.content import OWN_WEIGHT, item_vector, own_vector
from headrace.models.embeddings.directions import DIM, F32, UNSEEN, directions
from headrace.models.embeddings.item_keys import keys_of_items
from headrace.streams.messages.ids import words
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.key_index import KeyIndex


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


#: The version of content vectors.
CONTENT_VERSION = ContentVectors().version


def item_vectors(items: Sequence[Item]) -> F32:
    """Return ``item_vector`` of each item, float32 ``(n, DIM)``."""
    keys, kinds, bounds, _, _ = keys_of_items(list(items), *words())
    members, first = KeyIndex().take(keys)
    rows = directions(keys[first]) * UNSEEN[kinds[first], None]
    out = np.zeros((len(items), DIM), np.float32)
    add_bags(rows, members, np.ones(len(members), np.float32), bounds, out)
    for i, item in enumerate(items):
        if item.vector and (own := own_vector(item)) is not None:
            out[i] += OWN_WEIGHT * own
    norms = np.sqrt(np.array([row @ row for row in out], np.float32))
    return np.divide(out, norms[:, None], out=out, where=norms[:, None] > 0)
