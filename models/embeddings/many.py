"""Content vectors of many items at once: the same numbers as ``item_vector`` returns for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import xxhash

from headrace.models.embeddings.bags import add_bags
from headrace.models.embeddings.content import OWN_WEIGHT, WORD, item_vector, own_vector
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


#: The version of content vectors.
CONTENT_VERSION = ContentVectors().version


def item_vectors(items: Sequence[Item]) -> F32:
    """Return ``item_vector`` of each item, float32 ``(n, DIM)``."""
    texts, bounds = list[str](), [0]
    for item in items:
        texts += _texts(item)
        bounds.append(len(texts))
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    members = np.fromiter(map(numbers.__getitem__, texts), np.int64, len(texts))
    factors = UNSEEN[[KIND[text.partition(":")[0]] for text in numbers]]
    rows = directions(hash_many(list(numbers))) * factors[:, None]
    out = np.zeros((len(items), DIM), np.float32)
    add_bags(rows, members, np.ones(len(members), np.float32), np.array(bounds, np.int64), out)
    for i, item in enumerate(items):
        if item.vector and (own := own_vector(item)) is not None:
            out[i] += OWN_WEIGHT * own
    norms = np.sqrt(np.array([row @ row for row in out], np.float32))
    return np.divide(out, norms[:, None], out=out, where=norms[:, None] > 0)


def _texts(item: Item) -> list[str]:
    """Return the content features of an item, each once, in the order of ``item_vector``, as texts."""
    out = []
    if item.category:
        out.append(f"category:{item.category}")
    if item.creator_id:
        out.append(f"creator:{item.creator_id}")
    if item.tags:
        out += [f"tag:{tag}" for tag in sorted(set(item.tags)) if tag]
    if item.title:
        out += [f"word:{word}" for word in sorted(set(WORD.findall(item.title.lower())))]
    return out
