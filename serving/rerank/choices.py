"""What the re-rank stage chooses from: one column for each thing that a rule reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.serving.rerank.score_order import all_finite

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
        """Return the candidates at these places, in this order; columns are taken when they are read."""
        return _Taken(self, places)

    def vectors_at(self, places: I64) -> F32:
        """Return the vectors of the candidates at some places, float32 ``(k, DIM)``."""
        return self.vectors.take(places, axis=0)

    def column_at(self, name: str, places: I64) -> Any:
        """Return one column, not the vectors, of the candidates at some places, ``(k,)``."""
        return getattr(self, name).take(places)

    def keep(self) -> None:
        """Read what is not read yet, while it is what it was for the list."""

    def check(self) -> None:
        """Raise ValueError when a column has another length, or a score is not a finite number."""
        m = len(self.score)
        for name in self._read_columns():
            if len(getattr(self, name)) != m:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows, score has {m}")
        if not all_finite(self.score):
            raise ValueError("a score is not a finite number")

    def _read_columns(self) -> tuple[str, ...]:
        """Return the names of the columns that may have another length."""
        return _COLUMNS


class Unread(Choices):
    """Candidates whose vectors are read when they are asked for: a list needs only those of the best.

    Parameters
    ----------
    read
        Returns the vectors of the candidates at some places.
    columns
        All other columns, by name.
    """

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[I64], F32], **columns: Any) -> None:
        self._read = read
        for name, column in columns.items():
            setattr(self, name, column)

    def __getattr__(self, name: str) -> Any:
        """Read the vectors of all candidates; they are kept."""
        if name != "vectors":
            raise AttributeError(name)
        self.vectors = self._read(np.arange(len(self)))
        return self.vectors

    def vectors_at(self, places: I64) -> F32:
        """See ``Choices``; what is read is not kept."""
        return self._read(places)

    def keep(self) -> None:
        """See ``Choices``."""
        _ = self.vectors

    def _read_columns(self) -> tuple[str, ...]:
        return _BUT_VECTORS


class _Taken(Choices):
    """Some of other candidates, in some order: each column is taken when it is first read."""

    __slots__ = ("_of", "_places")

    def __init__(self, of: Choices, places: I64) -> None:
        self._of, self._places = of, places

    def __getattr__(self, name: str) -> Any:
        """Take a column; it is kept."""
        if name not in _NAMES:
            raise AttributeError(name)
        if name == "vectors":
            column = self._of.vectors_at(self._places)
        else:
            column = getattr(self._of, name).take(self._places)
        setattr(self, name, column)
        return column

    def __len__(self) -> int:
        return len(self._places)

    def vectors_at(self, places: I64) -> F32:
        """See ``Choices``."""
        return self._of.vectors_at(self._places[places])

    def column_at(self, name: str, places: I64) -> Any:
        """See ``Choices``; the rest of the column is not taken."""
        return self._of.column_at(name, self._places[places])

    def _read_columns(self) -> tuple[str, ...]:
        return ()


_COLUMNS = tuple(column.name for column in fields(Choices))
_NAMES, _BUT_VECTORS = frozenset(_COLUMNS), tuple(name for name in _COLUMNS if name != "vectors")
