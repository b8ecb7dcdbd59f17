"""The differences that a verification found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
Value = float | int | str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One live value that differs from the oracle's.

    Attributes
    ----------
    row
        Name of the row, for people.
    key
        Its 64-bit key, 16 hexadecimal digits.
    at
        The time asked for (ms), None where the value does not depend on it.
    """

    row: str
    key: str
    feature: str
    at: int | None
    expected: Value
    found: Value


@dataclass
class Findings:
    """The differences found so far. All are counted, the first ``limit`` are kept.

    Attributes
    ----------
    compared
        Number of values compared.
    not_compared
        Number of users whose affinities are not known.
    by_kind
        What was compared beside windows and counts: number of rows or values, by kind.
    left_out
        What could not be compared, by kind.
    """

    limit: int = 20
    compared: int = 0
    differences: int = 0
    not_compared: int = 0
    first: list[Difference] = field(default_factory=list)
    by_kind: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    _rows: set[tuple[str, int]] = field(default_factory=set)

    @property
    def rows(self) -> int:
        """Number of rows with a difference."""
        return len(self._rows)

    def count(self, kind: str, compared: int, left_out: int = 0) -> None:
        """Note how many of a kind were compared, and how many could not be."""
        self.by_kind[kind] += compared
        self.left_out[kind] += left_out

    def add(self, kind: str, keys: U64, make: Callable[[int], Difference]) -> None:
        """Add differences of rows of one kind.

        ``keys`` are the keys of their rows, uint64, one for each difference. ``make`` returns the difference
        at a position of ``keys``; it is called only for those that are kept.
        """
        self.differences += len(keys)
        self._rows.update((kind, key) for key in np.unique(keys).tolist())
        self.first += [make(i) for i in range(min(len(keys), self.limit - len(self.first)))]

    def first_as_dicts(self) -> list[dict[str, Any]]:
        """Return the first differences for JSON."""
        return [asdict(d) for d in self.first]
