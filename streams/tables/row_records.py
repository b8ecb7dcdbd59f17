"""Sort changelog records into rows, tombstones and meta records. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from headrace.streams.tables.changes import KEY_BYTES, U64

_NO_KEYS: U64 = np.zeros(0, np.uint64)


class RowRecords(NamedTuple):
    """Consecutive records of a changelog, sorted by kind.

    Attributes
    ----------
    keys, rows
        Keys, uint64 ``(n,)``, and packed rows, in offset order. Rows before the last tombstone of their key
        are left out. A key may occur several times.
    deleted
        Keys with a tombstone, uint64 ``(m,)``. A row written after the tombstone is in ``rows``.
    meta
        Key and value of every meta record (its key is not 8 bytes long), in offset order.
    """

    keys: U64
    rows: list[bytes]
    deleted: U64
    meta: list[tuple[bytes, bytes | None]]

    def latest(self) -> dict[int, bytes | None]:
        """Return, by key, the packed row of its last record; None when that is a tombstone."""
        out: dict[int, bytes | None] = dict.fromkeys(self.deleted.tolist())
        out.update(zip(self.keys.tolist(), self.rows, strict=True))
        return out


def row_records(records: Sequence[Any]) -> RowRecords:
    """Sort changelog records by kind.

    Parameters
    ----------
    records
        Objects with ``key`` and ``value`` (bytes or None), in offset order. Records without a key are
        skipped.
    """
    keys, values = [r.key for r in records], [r.value for r in records]
    if None not in keys and None not in values and set(map(len, keys)) <= {KEY_BYTES}:  # nearly always
        return RowRecords(_keys(keys), values, _NO_KEYS, [])
    pairs = [(key, value) for key, value in zip(keys, values, strict=True) if key is not None]
    meta = [(key, value) for key, value in pairs if len(key) != KEY_BYTES]
    pairs = [(key, value) for key, value in pairs if len(key) == KEY_BYTES]
    tombstone = {key: at for at, (key, value) in enumerate(pairs) if value is None}
    kept = [(key, value) for at, (key, value) in enumerate(pairs) if at > tombstone.get(key, -1)]
    return RowRecords(_keys([key for key, _ in kept]), [value for _, value in kept], _keys(tombstone), meta)


def _keys(keys: Sequence[bytes] | dict[bytes, int]) -> U64:
    return np.frombuffer(b"".join(keys), "<u8").astype(np.uint64, copy=False)
