"""Comparing items, everywhere and in countries: counts, first event, last click."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.oracle.compare.aligned import Aligned, align, check
from headrace.oracle.compare.counts import check_counts
from headrace.oracle.compare.findings import Difference, Findings
from headrace.oracle.compare.values import ItemValues
from headrace.oracle.features.items import Items


def compare_items(
    findings: Findings,
    known: Items,
    live: ItemValues,
    times: Sequence[int],
    *,
    covered_from: int = 0,
) -> Aligned:
    """Compare the items, or the items in countries, of one partition; return the aligned rows.

    Parameters are as in ``compare_users``.
    """
    if live.places is not None:
        live = check_places(findings, live, live.places)
    rows = align("item", known.keys, live.keys, ["item", "country"])
    check_counts(findings, rows, known, live, times, covered_from)
    check_item_times(findings, rows, known, live, covered_from)
    return rows


def check_places(findings: Findings, live: ItemValues, places: npt.NDArray[np.uint64]) -> ItemValues:
    """Check that every row is stored under the key that readers use; return the rows for which it is true."""
    stored = live.keys["key"].to_numpy()
    right = stored == places
    findings.compared += len(stored)
    keys, expected = stored[~right], places[~right]

    def make(k: int) -> Difference:
        found = f"{keys[k]:016x}"
        return Difference(f"item {found}", found, "key", None, f"{expected[k]:016x}", found)

    findings.add("item", keys, make)
    return live.where(right)


def check_item_times(
    findings: Findings, rows: Aligned, known: Items, live: ItemValues, covered_from: int
) -> None:
    """Compare the time of the last click and, with the whole history, of the first event."""
    last = rows.expected(known.last_click())
    check(
        findings,
        rows,
        lambda _: "last click",
        last,
        rows.found(live.last_click()),
        where=last >= covered_from,
    )
    if not covered_from:
        first, found = rows.expected(known.first_ts()), rows.found(live.first_ts())
        check(findings, rows, lambda _: "first event", first, found)
