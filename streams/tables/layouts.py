"""Layouts of rows: each has a number, which every row carries; rows of earlier layouts are migrated. Pure.

A table whose rows are kept declares its layouts once, next to its dtype (``declare``). The field ``layout``
of a row holds the number of its layout; before there were numbers it held the fingerprint of the dtype::

    declare("user-state", 2, ROW, [Earlier(1, OLD_ROW, migrate), Earlier(0, FIRST_ROW)])

Whoever reads rows gets rows of the newest layout: ``RowTable.load`` and ``unpack`` migrate. An earlier layout
without a migration cannot be read; a worker that finds it in a changelog stops and says what to do. So does
one that finds that a newer version of the code has written the changelog (``LAYOUT_KEY``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from headrace.streams.tables.packed_rows import pack_rows, unpack_rows

Rows = npt.NDArray[Any]
#: Makes rows of the next layout of rows of an earlier one, ``(n,)``. Their ``layout`` is set afterwards.
Migration = Callable[[Rows], Rows]

#: Key of the meta record of a changelog with the number of the layout that is written there, 8 bytes. A
#: worker writes it before its first row, so an older worker knows that there are rows it cannot read.
LAYOUT_KEY = b"layout-number"


@cache
def fingerprint(dtype: np.dtype[Any]) -> int:
    """Return a 32-bit hash of the names, types, shapes and byte positions of the fields."""
    lines = []
    for name in dtype.names or ():
        field, at = dtype.fields[name][:2]  # type: ignore[index]
        lines.append(f"{name} {field.base.str} {field.shape} {at}")
    return int(xxhash.xxh32_intdigest("\n".join([str(dtype.itemsize), *lines]).encode()))


@dataclass(frozen=True, slots=True)
class Earlier:
    """A layout that was written before.

    Attributes
    ----------
    number
        Its number.
    dtype
        Structured dtype of its rows.
    migrate
        Makes rows of the next layout of them; None: it cannot be done row by row.
    mark
        Value of the field ``layout`` in its rows: its number, or the fingerprint before there were numbers.
    """

    number: int
    dtype: np.dtype[Any]
    migrate: Migration | None = None
    mark: int = -1

    @property
    def written(self) -> int:
        """Return the value of the field ``layout`` in its rows."""
        return self.number if self.mark < 0 else self.mark


@dataclass(frozen=True, slots=True)
class Layouts:
    """The layouts of a table.

    Attributes
    ----------
    table
        Name of the table, for messages.
    number, dtype
        The newest layout.
    earlier
        Those before it, the newest first.
    """

    table: str
    number: int
    dtype: np.dtype[Any]
    earlier: tuple[Earlier, ...] = ()

    def migrated(self, packed: Sequence[bytes | None]) -> tuple[dict[int, bytes], dict[int, int]]:
        """Return rows of earlier layouts as packed rows of the newest one.

        Returns
        -------
        rows, unreadable
            Packed rows by their place in ``packed``; rows of no earlier layout are not in it. And the keys of
            rows of a layout without a migration, by their place.
        """
        found: dict[int, bytes] = {}
        unreadable: dict[int, int] = {}
        left = [at for at, row in enumerate(packed) if row is not None]
        for at_layout, layout in enumerate(self.earlier):
            rows = np.zeros(len(left), layout.dtype)
            mine = unpack_rows([packed[at] for at in left], rows)
            mine &= (rows["layout"] == layout.written) & (rows["key"] != 0)
            if not mine.any():
                continue
            places = [at for at, ours in zip(left, mine.tolist(), strict=True) if ours]
            left = [at for at, ours in zip(left, mine.tolist(), strict=True) if not ours]
            rows = rows[mine]
            steps = [step.migrate for step in reversed(self.earlier[: at_layout + 1])]
            for step in steps:
                if step is None:
                    unreadable |= zip(places, rows["key"].tolist(), strict=True)
                    break
                rows = step(rows)
            else:
                found |= dict(zip(places, self._packed(rows), strict=True))
        return found, unreadable

    def _packed(self, rows: Rows) -> list[bytes]:
        if rows.dtype != self.dtype:
            raise TypeError(f"the migrations of {self.table} make rows of {rows.dtype}")
        rows["layout"] = self.number
        blob, bounds = pack_rows(rows, np.arange(len(rows), dtype=np.int64))
        return [blob[start:end] for start, end in pairwise(bounds.tolist())]


_DECLARED: dict[np.dtype[Any], Layouts] = {}


def declare(table: str, number: int, dtype: np.dtype[Any], earlier: Sequence[Earlier] = ()) -> Layouts:
    """Declare the layouts of a table; return them.

    Raises
    ------
    ValueError
        When the numbers do not fall from ``number`` on by one, or a dtype has another declaration.
    """
    if [layout.number for layout in earlier] != [number - 1 - k for k in range(len(earlier))]:
        raise ValueError(f"{table}: the layouts before {number} come in order, the newest first")
    layouts = Layouts(table, number, dtype, tuple(earlier))
    if _DECLARED.setdefault(dtype, layouts) != layouts:
        raise ValueError(f"{table}: its dtype is declared as {_DECLARED[dtype].table}")
    return layouts


def layouts_of(dtype: np.dtype[Any]) -> Layouts | None:
    """Return the declared layouts of rows of a dtype, None when it has none."""
    return _DECLARED.get(dtype)


def mark_of(dtype: np.dtype[Any]) -> int:
    """Return the value of the field ``layout``: the number, without one the fingerprint of the dtype."""
    layouts = layouts_of(dtype)
    return fingerprint(dtype) if layouts is None else layouts.number


def number_in(value: bytes | None) -> int:
    """Return the number in a meta record of key ``LAYOUT_KEY``."""
    return int.from_bytes(value or b"", "little")


def carried(rows: Rows, blank: Rows | np.void, dtype: np.dtype[Any]) -> Rows:
    """Return rows of ``dtype`` with the fields that ``rows`` have, too; the others are those of ``blank``."""
    out = np.zeros(len(rows), dtype)
    out[:] = blank
    for name in dtype.names or ():
        if name in (rows.dtype.names or ()) and rows.dtype[name] == dtype[name]:
            out[name] = rows[name]
    return out
