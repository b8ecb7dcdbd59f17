"""What the towers read: content features of items, and columns of users."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.directions import F32, U8, U64

I64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class Features:
    """Content features of ``n`` items: those of item ``i`` are ``bounds[i]`` to ``bounds[i + 1]``.

    Attributes
    ----------
    bounds
        int64 ``(n + 1,)``.
    keys, kinds
        Feature keys, uint64, and their kinds (``KINDS``), uint8, ``(bounds[-1],)``.
    own_at, own
        The items with a vector of their publisher, int64 ``(m,)``, and these vectors (``own_vector``),
        float32 ``(m, DIM)``.
    """

    bounds: I64
    keys: U64
    kinds: U8
    own_at: I64
    own: F32


class NamedFeatures(Protocol):
    """The features that categories and creators are."""

    def categories(self, ids: U64) -> U64:
        """Return the feature keys (``category_key``) of categories, by ``hash64`` of their names; else 0."""

    def creators(self, ids: U64) -> U64:
        """Return the feature keys (``creator_key``) of creators, by ``hash64`` of their ids; else 0."""


class ItemFeatures(NamedFeatures, Protocol):
    """What a catalogue offers to the towers."""

    def features_of(self, items: U64) -> Features:
        """Return the content features of items; an item that is not known has none."""


@dataclass(slots=True)
class Users:
    """What the user tower knows of ``n`` users. 0 is nothing, everywhere.

    Attributes
    ----------
    recent
        Keys of the items clicked last, newest first, uint64 ``(n, places)``.
    preferred, followed
        ``hash64`` of the names of categories, and of the ids of creators, uint64 ``(n, any number)``.
    country, device
        ``hash64``, uint64 ``(n,)``.
    """

    recent: U64
    preferred: U64
    followed: U64
    country: U64
    device: U64

    def __len__(self) -> int:
        return len(self.country)

    def part(self, start: int, end: int) -> Users:
        """Return the users from ``start`` to ``end``."""
        return Users(*(getattr(self, f.name)[start:end] for f in fields(self)))

    def and_then(self, other: Users) -> Users:
        """Return these users, then the others, with room for the lists of both."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Users(*(_stacked(a, b) for a, b in pairs))


def _stacked(a: U64, b: U64) -> U64:
    if a.ndim == 1:
        return np.concatenate([a, b])
    out = np.zeros((len(a) + len(b), max(a.shape[1], b.shape[1])), np.uint64)
    out[: len(a), : a.shape[1]] = a
    out[len(a) :, : b.shape[1]] = b
    return out


def ragged(starts: I64, counts: I64) -> tuple[I64, I64]:
    """Return the bounds of lists, and where each of their elements lies, both int64.

    List ``i`` lies at ``starts[i]`` and has ``counts[i]`` elements.
    """
    bounds = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=bounds[1:])
    return bounds, np.repeat(starts - bounds[:-1], counts) + np.arange(bounds[-1])
