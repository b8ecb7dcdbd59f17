"""The rows of both sides, aligned, and the comparison of their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.oracle.compare.findings import Difference, Findings, Value

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Aligned:
    """All rows of the oracle and all live rows; the two rows of a user or item are one row here.

    Attributes
    ----------
    kind
        "user" or "item".
    keys
        64-bit keys, uint64 ``(n,)``.
    names
        Public ids, None where only the key is known.
    expected_at, found_at
        Positions in ``keys`` of the oracle's rows, int64 ``(n_oracle,)``, and of the live rows, int64
        ``(n_live,)``.
    """

    kind: str
    keys: U64
    names: list[str | None]
    expected_at: I64
    found_at: I64

    def __len__(self) -> int:
        return len(self.keys)

    def spread(self, values: npt.NDArray[Any], at: I64, empty: float = 0) -> npt.NDArray[Any]:
        """Return ``values`` at the positions ``at`` of all rows, ``empty`` elsewhere."""
        out = np.full((len(self), *values.shape[1:]), empty, values.dtype)
        out[at] = values
        return out

    def expected(self, values: npt.NDArray[Any], empty: float = 0) -> npt.NDArray[Any]:
        """Return values of the oracle's rows in the order of all rows; ``empty`` where it has no row."""
        return self.spread(values, self.expected_at, empty)

    def found(self, values: npt.NDArray[Any], empty: float = 0) -> npt.NDArray[Any]:
        """Return values of the live rows in the order of all rows; ``empty`` where there is no row."""
        return self.spread(values, self.found_at, empty)

    def difference(self, i: int, feature: str, at: int | None, expected: Value, found: Value) -> Difference:
        """Return the difference of row ``i`` in one feature."""
        key = f"{int(self.keys[i]):016x}"
        return Difference(f"{self.kind} {self.names[i] or key}", key, feature, at, expected, found)


def align(kind: str, known: pl.DataFrame, live: pl.DataFrame, on: Sequence[str]) -> Aligned:
    """Align rows that have equal values in the columns ``on``.

    Parameters
    ----------
    known
        The oracle's rows: columns row, name and ``on``.
    live
        The live rows: columns key and ``on``.
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
    """Compare two arrays of the same shape, ``(n, ...)`` with ``n`` rows.

    Parameters
    ----------
    feature
        Returns the name of a value from its indices, without that of the row.
    expected, found
        Values of the oracle and live values.
    at
        The time asked for (ms), if the values depend on it.
    where
        The values to compare, bool; all when None.
    slack
        The largest difference that is accepted.
    """
    counts = np.ones(expected.shape, bool) if where is None else np.broadcast_to(where, expected.shape)
    findings.compared += int(counts.sum())
    gap = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    bad = counts & ~(gap <= slack)  # True for NaN, too
    places = np.argwhere(bad)

    def make(k: int) -> Difference:
        i, *rest = places[k].tolist()
        told = expected[i, *rest].item(), found[i, *rest].item()
        return rows.difference(i, feature(tuple(rest)), at, *told)

    findings.add(rows.kind, rows.keys[places[:, 0]], make)


def check_keys(
    findings: Findings,
    rows: Aligned,
    feature: Callable[[tuple[int, ...]], str],
    expected: U64,
    found: U64,
    *,
    where: Bool | None = None,
) -> None:
    """Compare two arrays of 64-bit keys of the same shape, ``(n, ...)`` with ``n`` rows; as in ``check``."""
    shape = (len(rows), *(1,) * (expected.ndim - 1))
    counts = np.broadcast_to(np.bool_(True) if where is None else where.reshape(shape), expected.shape)
    findings.compared += int(counts.sum())
    places = np.argwhere(counts & (expected != found))

    def make(k: int) -> Difference:
        i, *rest = places[k].tolist()
        told = f"{int(expected[i, *rest]):016x}", f"{int(found[i, *rest]):016x}"
        return rows.difference(i, feature(tuple(rest)), None, *told)

    findings.add(rows.kind, rows.keys[places[:, 0]], make)
