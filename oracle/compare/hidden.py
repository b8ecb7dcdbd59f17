"""Comparing what users hid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl

from headrace.oracle.compare.aligned import Aligned, check_keys
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.profiles import by_user, padded
from headrace.oracle.compare.values import HiddenValues
from headrace.oracle.features.hidden import CREATORS, ITEMS, hidden_of

#: Names of the kinds in ``Findings.by_kind``: they count the users who hid something.
HIDDEN: Final = "users who hid items"
HIDDEN_CREATORS: Final = "users who hid creators"


def compare_hidden(
    findings: Findings,
    rows: Aligned,
    events: pl.DataFrame,
    live: HiddenValues,
    attributes: pl.DataFrame,
    *,
    covered_from: int = 0,
    complete: bool = True,
) -> None:
    """Compare the items and creators that users hid.

    Parameters
    ----------
    rows
        The rows of ``live``, aligned.
    events
        The events that the rows count.
    attributes
        The result of ``item_attributes``; ``complete`` is true when no record of `items` is missing.
    covered_from
        All events from this time (ms) on are known; 0 when all are. Else nothing is compared.
    """
    told = by_user(rows, hidden_of(events, attributes, complete=complete))
    known = np.full(len(rows), not covered_from)
    sure = told["sure"].fill_null(True).to_numpy() & known
    for kind, what, size, where in (
        (HIDDEN, "items", ITEMS, known),
        (HIDDEN_CREATORS, "creators", CREATORS, sure),
    ):
        expected = padded(told[what].to_list(), size)
        check_keys(findings, rows, _numbered(what), expected, rows.found(live.hidden(what)), where=where)
        some = told[what].list.len().fill_null(0).to_numpy() > 0
        findings.count(kind, int((some & where).sum()), int((some & ~where).sum()))


def _numbered(what: str) -> Callable[[tuple[int, ...]], str]:
    return lambda k: f"hidden {what} {k[0] + 1}"
