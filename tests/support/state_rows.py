"""Rows and changelog records for tests of state partitions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headrace.streams.tables.partition import StatePartition

ROW = np.dtype([("key", "u8"), ("offset", "i8"), ("updated", "i8"), ("layout", "u4"), ("count", "u4")])


class Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def put(part: StatePartition, key: int, offset: int, count: int, updated: int = 0) -> None:
    rows = part.rows.take(keys(key))
    for name, value in (("offset", offset), ("count", count), ("updated", updated)):
        part.rows.data[name][rows] = value
    part.touch(rows)


def contents(part: StatePartition) -> dict[int, tuple[int, int]]:
    data = part.rows.data[part.rows.rows()]
    return {int(r["key"]): (int(r["offset"]), int(r["count"])) for r in data}
