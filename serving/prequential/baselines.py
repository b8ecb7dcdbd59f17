"""What lists are compared with: popularity, and neighbours of items. All counts are exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

#: A click rate is smoothed towards the mean one with the weight of so many showings.
SMOOTHING = 20.0


class Counted:
    """Clicks and showings of each item so far."""

    def __init__(self) -> None:
        self._clicks: Counter[str] = Counter()
        self._on_lists: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()

    def elsewhere(self, items: Iterable[str]) -> None:
        """Count clicks that came from no list: they are in no click rate."""
        self._clicks.update(items)

    def shown(self, items: Sequence[str], clicked: Iterable[str]) -> None:
        """Count a list and the clicks on it."""
        self._shown.update(items)
        self._on_lists.update(clicked)

    def scores(self, items: Sequence[str]) -> dict[str, F64]:
        """Return the scores of ``items``, float64 ``(n,)`` each, by the name of the method."""
        on_lists, elsewhere, shown = (
            np.array([counts[i] for i in items], np.float64)
            for counts in (self._on_lists, self._clicks, self._shown)
        )
        mean = self._on_lists.total() / max(1, self._shown.total())
        rate = (on_lists + SMOOTHING * mean) / (shown + SMOOTHING)
        return {"clicks so far": on_lists + elsewhere, "click rate so far": rate}


class ItemKnn:
    """Neighbours of items by the users who like both: cosine (Sarwar et al. 2001), exact after every like.

    Attributes
    ----------
    likes
        Likes of each item, float64 ``(n,)``.
    """

    def __init__(self, n: int) -> None:
        self.likes = np.zeros(n)
        self._both = np.zeros((n, n), np.float32)

    def like(self, item: int, before: Sequence[int]) -> None:
        """Count a like of a user who has liked other items ``before``."""
        self.likes[item] += 1
        others = list(before)
        self._both[item, others] += 1
        self._both[others, item] += 1

    def scores(self, liked: Sequence[int]) -> F64:
        """Return the sum of the cosines to the items that a user likes, float64 ``(n,)``."""
        places = list(liked)
        norm = np.sqrt(np.maximum(self.likes, 1))
        out: F64 = (self._both[places] / norm[places, None]).sum(0, dtype=np.float64) / norm
        return out
