"""What the re-rank stage chooses from: one column for each thing that a rule reads."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Choices:
    """The candidates of one list, as columns of length m.

    Parameters
    ----------
    score
        Higher is better; may be negative, must be finite.
    vectors
        Unit vectors ``(m, DIM)``; zeros where an item has no content.
    creator, category
        Hashed ids, 0 where there is none.
    followed
        The user follows the creator.
    tail
        A long-tail item: one that few people open.
    fresh
        A new item in its freshness budget: it has not been shown often enough to be judged.
    clicks, shown
        How often the item was clicked and shown, for the chances of fresh items. Not negative.
    boost
        Factor of the item; above 1 lifts it.
    prior
        Click rate that is believed of the item before its own counts; 0: that of the rules.
    guess
        Click rate that is believed of the item for a user without history; 0: the user has one.
    title
        The same number for items with the same title; 0 where it says nothing, or is not looked at.
    """

    score: F64
    vectors: F32
    creator: U64
    category: U64
    followed: Mask
    tail: Mask
    fresh: Mask
    clicks: F64
    shown: F64
    boost: F64
    prior: F64
    guess: F64
    title: U64

    @classmethod
    def plain(cls, score: F64, vectors: F32) -> Choices:
        """Return candidates of which only the score and the vectors are known."""
        m = len(score)
        ids, no, none = np.zeros(m, np.uint64), np.zeros(m, bool), np.zeros(m)
        return cls(score, vectors, ids, ids, no, no, no, none, none, np.ones(m), none, none, ids)

    def __len__(self) -> int:
        return len(self.score)

    def take(self, places: I64) -> Choices:
        """Return the candidates at these places, in this order."""
        return Choices(*(getattr(self, name).take(places, axis=0) for name in _COLUMNS))

    def check(self) -> None:
        """Raise ValueError when a column has another length, or a score is not a finite number."""
        m = len(self.score)
        for name in _COLUMNS:
            if len(getattr(self, name)) != m:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows, score has {m}")
        if not np.isfinite(self.score).all():
            raise ValueError("a score is not a finite number")


_COLUMNS = tuple(column.name for column in fields(Choices))
