"""What a verification found, and oracle rows and live rows side by side. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Value = float | int | str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not what the records say.

    ``at`` is the time asked (ms), None where the value does not depend on it.
    """

    row: str
    key: str
    feature: str
    at: int | None
    expected: Value
    found: Value


@dataclass
class Findings:
    """What was compared so far, and what did not fit. ``limit`` differences are kept, all are counted."""

    limit: int = 20
    compared: int = 0
    differences: int = 0
    not_compared: int = 0
    first: list[Difference] = field(default_factory=list)
    _rows: set[tuple[str, int]] = field(default_factory=set)

    @property
    def rows(self) -> int:
        """How many rows differ."""
        return len(self._rows)

    def add(self, kind: str, keys: U64, make: Callable[[int], Difference]) -> None:
        """Take over differences of rows of one kind.

        ``keys`` are the rows' keys, one a difference; ``make`` is called for the positions to be kept.
        """
        self.differences += len(keys)
        self._rows.update((kind, key) for key in np.unique(keys).tolist())
        self.first += [make(i) for i in range(min(len(keys), self.limit - len(self.first)))]

    def first_as_dicts(self) -> list[dict[str, Any]]:
        """Return the first differences for JSON."""
        return [asdict(d) for d in self.first]


@dataclass(frozen=True)
class Aligned:
    """Oracle rows and live rows side by side: row ``i`` here is ``expected_at[j] == i`` there, and so on.

    Attributes
    ----------
    kind
        "user" or "item".
    keys
        64-bit keys, uint64 ``(n,)``.
    names
        Texts, None where only the key is known.
    expected_at, found_at
        Positions of the oracle's rows, int64 ``(n_oracle,)``, and of the live rows, int64 ``(n_live,)``.
    """

    kind: str
    keys: U64
    names: list[str | None]
    expected_at: I64
    found_at: I64

    def __len__(self) -> int:
        return len(self.keys)

    def spread(self, values: npt.NDArray[Any], at: I64, empty: float = 0) -> npt.NDArray[Any]:
        """Return ``values`` at their positions among all rows, ``empty`` elsewhere."""
        out = np.full((len(self), *values.shape[1:]), empty, values.dtype)
        out[at] = values
        return out

    def expected(self, values: npt.NDArray[Any], empty: float = 0) -> npt.NDArray[Any]:
        """Return an array of the oracle by row of this."""
        return self.spread(values, self.expected_at, empty)

    def found(self, values: npt.NDArray[Any], empty: float = 0) -> npt.NDArray[Any]:
        """Return an array of live values by row of this."""
        return self.spread(values, self.found_at, empty)

    def difference(self, i: int, feature: str, at: int | None, expected: Value, found: Value) -> Difference:
        """Return the difference of row ``i`` in one feature."""
        key = f"{int(self.keys[i]):016x}"
        return Difference(f"{self.kind} {self.names[i] or key}", key, feature, at, expected, found)


def align(kind: str, known: pl.DataFrame, live: pl.DataFrame, on: Sequence[str]) -> Aligned:
    """Put rows side by side that agree in the columns ``on``.

    Parameters
    ----------
    known
        The oracle's: row, name and ``on``.
    live
        key and ``on``, a row for every live row.
    """
    both = known.join(live.with_row_index("live"), on=list(on), how="full", coalesce=True).sort(*on)
    return Aligned(
        kind,
        both.select(pl.coalesce("key", on[0]))["key"].to_numpy().astype(np.uint64),
        both["name"].to_list(),
        _inverse(both["row"], len(known)),
        _inverse(both["live"], len(live)),
    )


def _inverse(column: pl.Series, n: int) -> I64:
    """Return the position of each of ``0..n-1`` in ``column``, int64 ``(n,)``."""
    out = np.zeros(n, np.int64)
    there = np.flatnonzero(column.is_not_null().to_numpy())
    out[column.drop_nulls().to_numpy()] = there
    return out


def check(
    findings: Findings,
    rows: Aligned,
    feature: Callable[[tuple[int, ...]], str],
    expected: npt.NDArray[Any],
    found: npt.NDArray[Any],
    *,
    at: int | None = None,
    where: Bool | None = None,
    slack: npt.NDArray[Any] | float = 0,
) -> None:
    """Compare two arrays, ``(n, ...)`` each; ``where`` says what counts, ``slack`` what may lie between.

    ``feature`` names a value by its indices after the row's.
    """
    counts = np.ones(expected.shape, bool) if where is None else np.broadcast_to(where, expected.shape)
    findings.compared += int(counts.sum())
    gap = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    bad = counts & ~(gap <= slack)  # also what is not a number
    places = np.argwhere(bad)

    def make(k: int) -> Difference:
        i, *rest = places[k].tolist()
        told = expected[i, *rest].item(), found[i, *rest].item()
        return rows.difference(i, feature(tuple(rest)), at, *told)

    findings.add(rows.kind, rows.keys[places[:, 0]], make)
