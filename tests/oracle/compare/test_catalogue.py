"""The items of a snapshot against records of `items`: what is missing, too much, old, or cannot be known."""

from __future__ import annotations

import polars as pl
import pytest

from headrace.oracle.compare.catalogue import SNAPSHOT, compare_catalogue
from headrace.oracle.compare.findings import Findings
from headrace.oracle.features.catalogue import catalogue_at
from headrace.oracle.records.frames import ITEMS
from headrace.oracle.records.places import AGAIN

#: partition, offset, verdict, item, published
RECORDS = [
    (0, 0, "", 1, 100), (0, 1, "", 2, 100), (0, 2, "", 1, 200), (0, 3, "", 2, None),
    (0, 4, "undecodable", 3, 9),
    (0, 5, AGAIN, 1, 300), (0, 6, "", 4, 100), (0, 7, "", 1, 400), (1, 0, "", 5, 100), (1, 1, "", 5, None),
    (0, 8, "", 2, 500),
]  # fmt: skip


def items() -> pl.DataFrame:
    rows = [(p, o, 0, v, i, 7, 7, f"item-{i}", ms, False) for p, o, v, i, ms in RECORDS]
    return pl.DataFrame(rows, ITEMS, orient="row")


def snapshot(*rows: tuple[int, int], **ids: str) -> pl.DataFrame:
    told = [(i, ids.get(f"of_{i}", f"item-{i}"), ms) for i, ms in rows]
    return pl.DataFrame(told, {"item": pl.UInt64, "item_id": pl.String, "published": pl.Int64}, orient="row")


def differences(found: pl.DataFrame, *, whole: bool = True) -> Findings:
    findings = Findings()
    compare_catalogue(findings, catalogue_at(items(), {0: 7, 1: 1}, whole=whole), found, whole=whole)
    return findings


RIGHT = [(1, 300), (4, 100), (5, 100)]


def test_what_is_right_is_right() -> None:
    findings = differences(snapshot(*RIGHT))
    assert findings.first == []
    assert (findings.by_kind[SNAPSHOT], findings.left_out[SNAPSHOT]) == (3, 0)


@pytest.mark.parametrize(
    ("rows", "row", "expected", "found"),
    [
        ([(1, 300), (4, 100)], "item item-5", 100, None),  # missing
        ([*RIGHT, (2, 100)], "item item-2", None, 100),  # withdrawn
        ([*RIGHT, (9, 100)], "item item-9", None, 100),  # never there
        ([(1, 200), (4, 100), (5, 100)], "item item-1", 300, 200),  # old
        ([(1, 400), (4, 100), (5, 100)], "item item-1", 300, 400),  # of a later record
    ],
)
def test_what_is_wrong_is_named(
    rows: list[tuple[int, int]], row: str, expected: int | None, found: int | None
) -> None:
    (one,) = differences(snapshot(*rows)).first
    assert (one.row, one.feature) == (f"{row} of the catalogue snapshot", "published")
    assert (one.expected, one.found) == (expected, found)


def test_another_id_is_named() -> None:
    (one,) = differences(snapshot(*RIGHT, of_4="item-x")).first
    assert (one.feature, one.expected, one.found) == ("id", "item-4", "item-x")


def test_of_a_compacted_topic_only_what_is_sure_is_compared() -> None:
    findings = differences(snapshot((4, 50), (1, 1), (5, 1), (9, 9)), whole=False)
    assert [(d.row, d.expected, d.found) for d in findings.first] == [
        ("item item-4 of the catalogue snapshot", 100, 50)
    ]
    assert (findings.by_kind[SNAPSHOT], findings.left_out[SNAPSHOT]) == (1, 3)
