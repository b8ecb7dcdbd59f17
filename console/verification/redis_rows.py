"""Comparing the rows in Redis with those in the changelogs, byte by byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.oracle.compare.aligned import Aligned
from headrace.oracle.compare.findings import Difference, Findings
from headrace.serving.store.protocol import Kind
from headrace.serving.store.redis import RedisStore
from headrace.streams.clock import now_ms
from headrace.streams.tables.rows import unpack

#: Rows read in one call.
CHUNK = 500
_DTYPES: dict[Kind, np.dtype[Any]] = {"u": user_state.ROW, "i": item_state.ROW}

#: A row that differs: its key, and the row in Redis (None: no row).
Wrong = tuple[int, bytes | None]


async def compare_stored(
    findings: Findings,
    store: RedisStore,
    kind: Kind,
    rows: Aligned,
    packed: Mapping[int, bytes],
    *,
    forgotten: Mapping[int, str],
    ttl_s: int,
) -> int:
    """Compare the rows of one kind in Redis with the changelog's; return how many.

    Parameters
    ----------
    rows
        Names the rows in differences.
    packed
        The changelog's rows by key.
    forgotten
        Forgotten users, public ids by key. Redis may have no row of such a user, or the row in the changelog.
    ttl_s
        Rows not updated for this long may have expired in Redis.
    """
    names = {**dict(zip(rows.keys.tolist(), rows.names, strict=True)), **forgotten}
    expired = now_ms() - ttl_s * 1000
    keys = [*packed, *sorted(forgotten.keys() - packed.keys())]

    def may_be_missing(key: int) -> bool:
        return key in forgotten or _field(packed[key], _DTYPES[kind], "updated") < expired

    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        stored = await store.get(kind, chunk)
        wrong = [
            (key, found)
            for key, found in zip(chunk, stored, strict=True)
            if found != packed.get(key) and not (found is None and may_be_missing(key))
        ]
        findings.compared += len(chunk)
        _add(findings, rows.kind, wrong, names, packed, _DTYPES[kind])
    return len(keys)


def _add(
    findings: Findings,
    kind: str,
    wrong: Sequence[Wrong],
    names: Mapping[int, str | None],
    packed: Mapping[int, bytes],
    dtype: np.dtype[Any],
) -> None:
    def make(k: int) -> Difference:
        key, found = wrong[k]
        told = f"{key:016x}"
        row = f"{kind} {names.get(key) or told}"
        return Difference(
            row, told, "row in Redis", None, describe(packed.get(key), dtype), describe(found, dtype)
        )

    findings.add(kind, np.array([key for key, _ in wrong], np.uint64), make)


def _field(row: bytes, dtype: np.dtype[Any], name: str) -> int:
    return int(unpack([row], dtype)[0][name][0])


def describe(row: bytes | None, dtype: np.dtype[Any]) -> str:
    """Describe a packed row by its offset and time: rows that differ mostly differ in their offset."""
    if row is None:
        return "no row"
    if not unpack([row], dtype)[1][0]:
        return f"{len(row)} bytes that are no row"
    return f"offset {_field(row, dtype, 'offset')}, updated {_field(row, dtype, 'updated')}"
