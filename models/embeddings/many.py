"""Vectors of many items at once, for the catalogue in files: by content alone, or by learnt towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import xxhash

from headrace.models.embeddings.content import item_vector, own_vector
from headrace.models.embeddings.directions import DIM, F32, U64
from headrace.models.embeddings.features import Features
from headrace.models.embeddings.item_keys import keys_of_items
from headrace.models.embeddings.towers import Towers
from headrace.streams.messages.ids import words
from headrace.streams.messages.schemas import Item


class ItemVectors(Protocol):
    """What gives items their vectors.

    Attributes
    ----------
    content
        Another text when content, or hashes of ids, are read in another way: then no version is comparable.
    version
        Vectors of different versions must not be compared.
    """

    @property
    def content(self) -> str:
        """See ``Attributes``."""

    @property
    def version(self) -> str:
        """See ``Attributes``."""

    def item_vectors(self, keys: U64, content: Features) -> F32:
        """Return unit vectors, float32 ``(n, DIM)``; zeros for an item of which nothing is known."""


class TowerVectors:
    """Vectors by towers.

    Parameters
    ----------
    towers
        The towers.

    Attributes
    ----------
    content, version
        See ``ItemVectors`` and ``version_of``.
    """

    def __init__(self, towers: Towers) -> None:
        probe = Item("probe", 0, "a title with words", "category", ["tag"], "creator")
        rounded = np.rint(item_vector(probe) * 100).astype(np.int8)
        self.content: str = f"{DIM}-{xxhash.xxh3_64_hexdigest(rounded.tobytes())}"
        self.version: str = version_of(self.content, towers.version)
        self._towers = towers

    def item_vectors(self, keys: U64, content: Features) -> F32:
        """Return unit vectors, float32 ``(n, DIM)``; zeros for an item of which nothing is known."""
        return self._towers.vectors_of(keys, content)


class ContentVectors(TowerVectors):
    """Vectors from content only, version 0 of the item tower."""

    def __init__(self) -> None:
        super().__init__(Towers())


def version_of(content: str, towers: str) -> str:
    """Return the version of vectors by those of the content and of the towers; ``towers`` may be empty."""
    return f"{content}-{towers}" if towers else content


#: The version of content vectors.
CONTENT_VERSION = ContentVectors().version


def content_of(items: Sequence[Item]) -> Features:
    """Return ``content_features`` and ``own_vector`` of each item."""
    keys, kinds, bounds, _, _ = keys_of_items(list(items), *words())
    own = {at: own for at, item in enumerate(items) if item.vector and (own := own_vector(item)) is not None}
    vectors = np.array(list(own.values()), np.float32).reshape(-1, DIM)
    return Features(bounds, keys, kinds, np.array(list(own), np.int64), vectors)
