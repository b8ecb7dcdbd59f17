"""Comparing the items of a catalogue snapshot with the records of `items`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from headrace.oracle.compare.findings import Difference, Findings

#: Name of the kind in ``Findings.by_kind``.
SNAPSHOT: Final = "items of the catalogue snapshot"


def compare_catalogue(
    findings: Findings, expected: pl.DataFrame, found: pl.DataFrame, *, whole: bool
) -> None:
    """Compare which items there are, their ids and publication times.

    Parameters
    ----------
    expected
        ``CATALOGUE``.
    found
        The items of the snapshot: item, item_id, published.
    whole
        Whether the topic still has every record. If not, nothing is known of an item that it does not have.
    """
    sure = expected.filter("sure").select("item", name="item_id", wanted="published")
    both = sure.join(found, on="item", how="full", coalesce=True)
    known = both.filter(pl.col("name").is_not_null() | pl.lit(whole))
    findings.compared += 2 * len(known)
    findings.count(SNAPSHOT, int(known["published"].is_not_null().sum()), len(both) - len(known))
    wrong = known.filter(pl.col("wanted").ne_missing(pl.col("published")))
    _add(
        findings,
        wrong.select("item", pl.coalesce("name", "item_id"), "wanted", "published").rows(),
        "published",
    )
    there = known.drop_nulls(["name", "item_id"])
    other = there.filter(pl.col("name") != pl.col("item_id"))
    _add(findings, other.select("item", "name", pl.col("name").alias("wanted"), "item_id").rows(), "id")


def _add(findings: Findings, wrong: list[tuple[Any, ...]], feature: str) -> None:
    def make(k: int) -> Difference:
        key, name, expected, got = wrong[k]
        return Difference(
            f"item {name} of the catalogue snapshot", f"{key:016x}", feature, None, expected, got
        )

    findings.add("catalogue", np.array([row[0] for row in wrong], np.uint64), make)
