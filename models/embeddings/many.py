"""Vectors of many items at once, for the catalogue in files: by content alone, or by learnt towers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
import xxhash

from headrace.models.embeddings.content import item_vector, named_features, own_vector
from headrace.models.embeddings.directions import DIM, F32, KIND, U8, U64
from headrace.models.embeddings.features import Features
from headrace.models.embeddings.towers import Towers
from headrace.streams.messages.ids import hash_many
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
    described = [named_features(item) for item in items]
    texts = [f"{kind}:{text}" for some in described for kind, text in some]
    kinds: U8 = np.array([KIND[kind] for some in described for kind, _ in some], np.uint8)
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    places = np.fromiter(map(numbers.__getitem__, texts), np.int64, len(texts))
    own = {at: own for at, item in enumerate(items) if item.vector and (own := own_vector(item)) is not None}
    return Features(
        np.fromiter(accumulate(map(len, described), initial=0), np.int64, len(items) + 1),
        hash_many(list(numbers))[places],
        kinds,
        np.array(list(own), np.int64),
        np.array(list(own.values()), np.float32).reshape(-1, DIM),
    )
