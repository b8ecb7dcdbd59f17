"""At most so many items of one creator, and of one category."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from headrace.serving.rerank.choices import U64, Choices, Mask
from headrace.serving.rerank.rules import Rules


class Quota:
    """At most ``at_most`` items with the same key in any ``window`` slots in a row.

    Parameters
    ----------
    keys
        uint64 ``(m,)``; items with key 0 are left alone.
    at_most
        Items of one key, at least 1.
    window
        Number of slots; 0 for the whole list.
    """

    reason, slots = "", None

    def __init__(self, keys: U64, at_most: int, window: int = 0) -> None:
        self._keys = keys
        self._at_most, self._window = at_most, window
        self._seen: Counter[int] = Counter()
        self._shown: list[int] = []
        self._allowed = np.ones(len(keys), bool)
        self._full = 0  # keys that have reached the limit

    def allowed(self, slot: int) -> Mask | None:
        """Return the items whose key has not reached the limit; None when none has."""
        return self._allowed if self._full else None

    def put(self, slot: int, place: int) -> None:
        """Count the item; forget the one that leaves the window."""
        key = int(self._keys[place])
        self._shown.append(key)
        self._count(key, 1, self._at_most)
        if self._window and slot + 1 >= self._window:
            self._count(self._shown[slot + 1 - self._window], -1, self._at_most - 1)

    def _count(self, key: int, step: int, turn: int) -> None:
        """Add ``step`` to a key's count; at ``turn``, its items are closed (or opened again)."""
        if not key:
            return
        self._seen[key] += step
        if self._seen[key] == turn:
            self._full += step
            self._allowed[self._keys == key] = step < 0


def creator_quota(choices: Choices, n: int, rules: Rules) -> Quota | None:
    """Return the quota of creators for a list of ``n`` slots, None when it is off."""
    if not rules.creator_at_most or not choices.creator.any():
        return None
    return Quota(choices.creator, rules.creator_at_most, rules.creator_window)


def category_quota(choices: Choices, n: int, rules: Rules) -> Quota | None:
    """Return the quota of categories for a list of ``n`` slots, None when it is off."""
    at_most = min(rules.category_at_most or n, math.ceil(rules.category_share * n - 1e-9))
    if at_most >= n or not choices.category.any():
        return None
    return Quota(choices.category, max(1, at_most))
