"""A dict in parts that only grows: none of its changes takes longer the more it holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

V = TypeVar("V")
T = TypeVar("T")

#: Python copies all of a dict when its room is used up: 80 ms for a million.
PARTS = 1024


class PartedDict(Generic[V]):
    """Values by 64-bit key, in ``PARTS`` dicts by the lowest bits of the key: keys are hashes.

    Only one part is copied at a time, of about ``len(self) / PARTS`` entries.
    """

    def __init__(self) -> None:
        self.parts: list[dict[int, V]] = [{} for _ in range(PARTS)]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def get(self, key: int, default: T) -> V | T:
        """Return the value of a key, or ``default``."""
        return self.parts[key % PARTS].get(key, default)

    def put_many(self, keys: Iterable[int], values: Iterable[V]) -> None:
        """Set the values of keys, as many of both."""
        parts = self.parts
        for key, value in zip(keys, values, strict=True):
            parts[key % PARTS][key] = value
