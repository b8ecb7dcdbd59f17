"""Comparing neighbour rows: totals, and the weight of each neighbour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl

from headrace.oracle.compare.aligned import Aligned, align, check
from headrace.oracle.compare.counts import DECAYED_REL, TINY
from headrace.oracle.compare.findings import Difference, Findings
from headrace.oracle.compare.values import NeighbourValues
from headrace.oracle.features.pairs import SLOTS, STEP_MS, Neighbours

#: Names of the kinds in ``Findings.by_kind``.
ROWS: Final = "neighbour rows"
WEIGHTS: Final = "neighbours"
#: Live weights are float32: each pair rounds them by at most so much, decays included.
_ROUNDING: Final = 4 / 2**24

_TOTALS: Final = ("next", "together")
#: What a difference in each weight is called.
_TOLD: Final = {
    "seq": "next",
    "co": "together",
    "seq_recent": "lately next",
    "co_recent": "lately together",
}


def compare_neighbours(
    findings: Findings, known: Neighbours, live: NeighbourValues, names: pl.DataFrame, unsure: pl.Series
) -> Aligned:
    """Compare the neighbour rows of one partition; return the aligned rows.

    The weights of a row with more than ``SLOTS`` different neighbours so far are only bounded: a live row
    drops weak neighbours.

    Parameters
    ----------
    known, live
        The oracle's values, and the live values.
    names
        item, name.
    unsure
        Items whose pairs the topics do not tell; left out.
    """
    rows_of = known.rows()
    keys = live.keys.with_row_index("at").filter(~pl.col("item").is_in(unsure.implode()))
    told = rows_of.select("row", "item").join(names, on="item", how="left", maintain_order="left")
    rows = align("item", told, keys.drop("at"), ["item"])
    at = keys["at"].to_numpy()
    newest = rows.expected(rows_of["newest"].to_numpy())
    check(
        findings,
        rows,
        lambda _: "newest pair, minutes",
        newest // STEP_MS,
        rows.found(live.newest()[at]) // STEP_MS,
    )
    totals = rows_of.select("seq", "co").to_numpy().astype(np.float64)
    rounding = rows.expected(rows_of["pairs"].to_numpy()) * _ROUNDING + DECAYED_REL
    expected = rows.expected(totals)
    check(
        findings,
        rows,
        lambda m: f"total {_TOTALS[m[0]]}",
        expected,
        rows.found(live.totals()[at]),
        slack=expected * rounding[:, None] + TINY,
    )
    _compare_slots(findings, rows, known, rows_of, _kept(live.slots, at))
    findings.count(ROWS, len(rows), len(live.keys) - len(keys))
    return rows


def _kept(slots: pl.DataFrame, at: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> pl.DataFrame:
    """Return the slots of the rows ``at``; ``row`` is then the position in ``at``."""
    kept = pl.DataFrame({"row": at}).with_columns(pl.col("row").cast(pl.Int64)).with_row_index("new")
    return slots.join(kept, on="row").drop("row").rename({"new": "row"})


def _compare_slots(
    findings: Findings, rows: Aligned, known: Neighbours, rows_of: pl.DataFrame, live: pl.DataFrame
) -> None:
    few = rows.expected(rows_of["others"].to_numpy()) <= SLOTS
    rounding = rows.expected(rows_of["pairs"].to_numpy()) * _ROUNDING + DECAYED_REL
    expected = _placed(known.slots(rows_of), rows.expected_at)
    found = _placed(live, rows.found_at)
    both = expected.join(found, on=["row", "other"], how="full", coalesce=True, suffix="_found")
    both = both.with_columns(pl.exclude("row", "other").fill_null(0.0)).sort("row", "other")
    row, every = both["row"].to_numpy(), len(both)
    both = both.with_columns(few=pl.Series(few[row]), rounding=pl.Series(rounding[row]))
    # A neighbour that a full row has dropped is not compared.
    both = both.filter(pl.col("few") | (pl.col("seq_found") != 0) | (pl.col("co_found") != 0))
    findings.compared += len(_TOLD) * len(both)
    findings.count(WEIGHTS, len(both), every - len(both))
    for name, told in _TOLD.items():
        want, have = pl.col(name), pl.col(f"{name}_found")
        slack = want * pl.col("rounding") + TINY
        good = (have - want <= slack) & (~pl.col("few") | (want - have <= slack))
        bad = both.filter(~good)
        findings.add(rows.kind, rows.keys[bad["row"].to_numpy()], _difference(rows, bad, name, told))


def _difference(rows: Aligned, bad: pl.DataFrame, name: str, told: str) -> Callable[[int], Difference]:
    def make(k: int) -> Difference:
        i, other, want, have = bad.select("row", "other", name, f"{name}_found").row(k)
        return rows.difference(i, f"{told} with {other:016x}", None, want, have)

    return make


def _placed(frame: pl.DataFrame, positions: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pl.DataFrame:
    """Return ``frame`` with ``row`` replaced by the position in the aligned rows."""
    return frame.with_columns(row=pl.Series(positions[frame["row"].to_numpy()], dtype=pl.Int64))
