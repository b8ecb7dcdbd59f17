"""Comparing the rows in Redis with those in the changelogs, byte by byte, in the newest layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.oracle.compare.findings import Difference, Findings
from headrace.serving.store.protocol import Kind, OnlineStore
from headrace.streams.clock import now_ms
from headrace.streams.tables.rows import unpack

#: Rows read in one call.
CHUNK = 500

#: A row that differs: its key, and the row in Redis (None: no row).
Wrong = tuple[int, bytes | None]


@dataclass(frozen=True)
class Stored:
    """One kind of rows in Redis.

    Attributes
    ----------
    kind
        Name of the kind in the store.
    word
        What a row is about, for people: "user" or "item".
    dtype
        Of a row.
    names
        Public ids by key, where they are known.
    ttl_s
        Rows not updated for this long may have expired in Redis.
    """

    kind: Kind
    word: str
    dtype: np.dtype[Any]
    names: Mapping[int, str | None]
    ttl_s: int

    def same(self, found: bytes | None, row: bytes | None) -> bool:
        """Return whether two packed rows are the same row; each may be of an earlier layout."""
        if found == row or found is None or row is None:
            return found == row
        rows, sound = unpack([found, row], self.dtype)
        return bool(sound.all()) and rows[0].tobytes() == rows[1].tobytes()

    def field(self, row: bytes, name: str) -> int:
        """Return a field of a packed row."""
        return int(unpack([row], self.dtype)[0][name][0])

    def describe(self, row: bytes | None) -> str:
        """Describe a packed row by its offset and time: rows that differ mostly differ in their offset."""
        if row is None:
            return "no row"
        if not unpack([row], self.dtype)[1][0]:
            return f"{len(row)} bytes that are no row"
        return f"offset {self.field(row, 'offset')}, updated {self.field(row, 'updated')}"


async def compare_stored(
    findings: Findings, store: OnlineStore, stored: Stored, packed: Mapping[int, bytes | None]
) -> int:
    """Compare the rows of one kind in Redis with what must be there; return how many.

    ``packed`` has the changelog's rows by key; None where Redis must not have a row.
    """
    expired = now_ms() - stored.ttl_s * 1000
    keys = list(packed)

    def wrong(key: int, found: bytes | None) -> bool:
        row = packed[key]
        may_be_missing = row is not None and stored.field(row, "updated") < expired
        return not stored.same(found, row) and not (found is None and may_be_missing)

    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        found = await store.get(stored.kind, chunk)
        bad = [(key, row) for key, row in zip(chunk, found, strict=True) if wrong(key, row)]
        findings.compared += len(chunk)
        _add(findings, stored, bad, packed)
    return len(keys)


def _add(
    findings: Findings, stored: Stored, wrong: Sequence[Wrong], packed: Mapping[int, bytes | None]
) -> None:
    def make(k: int) -> Difference:
        key, found = wrong[k]
        told = f"{key:016x}"
        row = f"{stored.word} {stored.names.get(key) or told}"
        expected = stored.describe(packed[key])
        what = {"n": "neighbours in Redis", "s": "shown items in Redis"}.get(stored.kind, "row in Redis")
        return Difference(row, told, what, None, expected, stored.describe(found))

    findings.add(stored.word, np.array([key for key, _ in wrong], np.uint64), make)
