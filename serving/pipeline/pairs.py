"""Neighbours of the anchors: the items clicked after them, and in the same sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.merging import strongest_of
from headrace.serving.pipeline.pair_sums import pair_sums, pairs_in

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

#: Factor for each click further back in the session: older clicks count less (Globo reference: 0.8).
FADE = 0.8


@dataclass(slots=True)
class Anchors:
    """The items to find neighbours of, newest first, with their neighbour rows (blank where unknown)."""

    items: list[int] = field(default_factory=list)
    rows: npt.NDArray[np.void] | None = None  # neighbours.ROW (len(items),)


@dataclass(slots=True)
class Pairs:
    """All (anchor, neighbour) pairs in flat arrays ``(n,)``, in the order of the anchors.

    ``seq`` and ``share`` are how often the neighbour was the next click, as a weight and as a share of all
    next clicks. ``together`` is how often both were in one session; it is smaller for older anchors.
    ``next_recent`` and ``together_recent`` are the same as ``share`` and ``together``, of the last minutes.
    """

    anchor: I64  # place of the anchor, 0 is the newest click
    other: U64
    weight: F32  # the following ones, (5, n)
    seq: F32
    share: F32
    together: F32
    next_recent: F32
    together_recent: F32
    next_total: float  # weight of all next clicks of the newest anchor

    @classmethod
    def of(cls, rows: npt.NDArray[np.void] | None) -> Pairs:
        """Return the pairs of neighbour rows, the row of the newest click first."""
        if rows is None or not len(rows):
            no = np.zeros(0, np.float32)
            none = np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros((5, 0), np.float32)
            return cls(*none, no, no, no, no, no, 0.0)
        anchor, other, weight, next_total = pairs_in(rows, _fades(len(rows)))
        seq, share, together, recent, near = weight
        return cls(anchor, other, weight, seq, share, together, recent, near, next_total)

    def strongest(self, weight: F32, k: int) -> list[U64]:
        """Return for every anchor its neighbours with a positive ``weight`` ``(n,)``, at most ``k``.

        The largest weight comes first.
        """
        return strongest_of(self.anchor, self.other, weight, k)

    def strongest_anchor(self, key: int, weight: F32) -> tuple[int, int]:
        """Return the anchor with the largest positive ``weight`` ``(n,)`` for an item, and that pair.

        Returns
        -------
        Place of the anchor and place of the pair, both -1 where there is none.
        """
        at = np.flatnonzero(self.other == np.uint64(key))
        at = at[weight[at] > 0]
        if not len(at):
            return -1, -1
        best = int(at[weight[at].argmax()])
        return int(self.anchor[best]), best

    def columns(self, keys: U64) -> dict[str, F32]:
        """Return the pair features of ``keys`` (ascending): fields of ``Candidates``, float32 ``(n,)``."""
        count = int(self.anchor[-1]) + 1 if len(self.anchor) else 0
        sums = pair_sums(keys, self.anchor, self.other, self.weight, _fades(count))
        return dict(zip(_COLUMNS, sums, strict=True))


#: Fields of ``Candidates``, in the order of ``pair_sums``.
_COLUMNS = (
    "next_score", "next_share", "next_share_2", "next_share_all", "together", "next_recent", "together_recent"
)  # fmt: skip


@lru_cache(maxsize=64)
def _fades(count: int) -> F32:
    """Return the factors of so many anchors, float32 ``(count,)``; to be read only."""
    return np.float32(FADE) ** np.arange(count, dtype=np.float32)
