"""Aligned rows; their differences are counted, and the first ones kept."""

from __future__ import annotations

import numpy as np
import polars as pl

from headrace.oracle.compare.aligned import align, check
from headrace.oracle.compare.findings import Findings


def test_differences_beyond_the_limit_are_counted() -> None:
    rows = align(
        "user",
        pl.DataFrame(
            {"row": [0, 1], "user": [5, 6], "name": ["a", "b"]},
            {"row": pl.UInt32, "user": pl.UInt64, "name": pl.String},
        ),
        pl.DataFrame({"key": [6, 7], "user": [6, 7]}, {"key": pl.UInt64, "user": pl.UInt64}),
        ["user"],
    )
    assert (rows.keys.tolist(), rows.names) == ([5, 6, 7], ["a", "b", None])
    expected, found = rows.expected(np.array([1, 2])), rows.found(np.array([2, np.nan]))
    assert expected.tolist() == [1, 2, 0]
    findings = Findings(1)
    check(findings, rows, lambda _: "f", expected, found, at=9)
    assert (findings.compared, findings.differences, len(findings.first)) == (3, 2, 1)
    assert findings.first_as_dicts() == [
        {"row": "user a", "key": f"{5:016x}", "feature": "f", "at": 9, "expected": 1, "found": 0.0}
    ]
    check(findings, rows, lambda _: "f", expected, found, where=np.array([False, True, False]))
    assert (findings.compared, findings.differences) == (4, 2)
