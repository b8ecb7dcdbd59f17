"""Neighbours of the anchors: the items clicked after them, and in the same sessions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.merging import strongest_of

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
            return cls(np.zeros(0, np.int64), np.zeros(0, np.uint64), no, no, no, no, no, 0.0)
        seq, co = rows["seq"], rows["co"]
        anchor, slot = np.nonzero((seq > 0) | (co > 0))
        seq, co = seq[anchor, slot], co[anchor, slot]
        seq_total, co_total = rows["seq_total"], rows["co_total"]
        share = seq / np.maximum(seq_total, np.float32(1e-9))[anchor]
        past = np.float32(FADE) ** np.arange(len(rows), dtype=np.float32)
        lately, near = rows["seq_recent"], rows["co_recent"]
        next_recent = (lately / np.maximum(lately.sum(1, keepdims=True), np.float32(1e-9)))[anchor, slot]
        fade = past / np.sqrt(1 + co_total)
        near = near * (past / np.sqrt(1 + near.sum(1)))[:, None]
        return cls(
            anchor,
            rows["other"][anchor, slot],
            seq,
            share,
            co * fade[anchor],
            next_recent,
            near[anchor, slot],
            float(seq_total[0]),
        )

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
        n = len(keys)
        at = np.minimum(np.searchsorted(keys, self.other), max(n - 1, 0))
        here = keys[at] == self.other if n else np.zeros(len(at), bool)
        at, anchor = at[here], self.anchor[here]
        seq, share, together = self.seq[here], self.share[here], self.together[here]
        first, second = anchor == 0, anchor == 1

        def total(where: I64, weight: F32) -> F32:
            return np.bincount(where, weight, n).astype(np.float32)

        return {
            "next_score": total(at[first], seq[first]),
            "next_share": total(at[first], share[first]),
            "next_share_2": total(at[second], share[second]),
            "next_share_all": total(at, share * np.float32(FADE) ** anchor.astype(np.float32)),
            "together": total(at, together),
            "next_recent": total(at[first], self.next_recent[here][first]),
            "together_recent": total(at, self.together_recent[here]),
        }
