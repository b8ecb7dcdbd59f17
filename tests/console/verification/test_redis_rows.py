"""Rows in Redis of another layout than those in the changelog: what they say is compared, not their bytes."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.console.verification.redis_rows import Stored, compare_stored
from headrace.models.state import users
from headrace.models.state.earlier_rows import USERS_1
from headrace.oracle.compare.findings import Findings
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import now_ms
from headrace.streams.tables.layouts import fingerprint
from headrace.streams.tables.packed_rows import pack_rows
from headrace.streams.tables.rows import PackedRows

STORED = Stored("u", "user", users.ROW, {}, 3600)


def old_row(clicks: int) -> bytes:
    row = np.zeros(1, USERS_1)
    row["key"], row["layout"], row["n_clicks"], row["updated"] = 7, fingerprint(USERS_1), clicks, now_ms()
    return pack_rows(row, np.arange(1))[0]


def migrated(row: bytes) -> bytes:
    table = users.new_table()
    table.load([row])
    return table.pack(table.rows())[0]


async def differences(found: bytes | None, row: bytes | None) -> int:
    store, findings = MemoryStore(), Findings(10)
    if found is not None:
        await store.put("u", PackedRows.of([7], [found]))
    assert await compare_stored(findings, store, STORED, {7: row}) == 1
    return findings.differences


@pytest.mark.parametrize("earlier", ["in Redis", "in the changelog", "in both"])
async def test_the_same_row_in_two_layouts_is_no_difference(earlier: str) -> None:
    old = old_row(3)
    assert old != migrated(old)
    found = migrated(old) if earlier == "in the changelog" else old
    row = migrated(old) if earlier == "in Redis" else old
    assert await differences(found, row) == 0


async def test_another_row_is_a_difference_in_any_layout() -> None:
    old, other = old_row(3), old_row(4)
    for found in (other, migrated(other), b"no row", None):
        for row in (old, migrated(old)):
            assert await differences(found, row) == 1
    assert await differences(old, None) == 1
    assert await differences(None, None) == 0
