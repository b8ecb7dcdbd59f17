"""Comparing users: counts, last clicks, affinities, time of views."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.oracle.compare.aligned import Aligned, align, check
from headrace.oracle.compare.counts import DECAYED_REL, TINY, check_counts
from headrace.oracle.compare.findings import Difference, Findings
from headrace.oracle.compare.values import UserValues
from headrace.oracle.features.users import Users


def compare_users(
    findings: Findings,
    known: Users,
    live: UserValues,
    attributes: pl.DataFrame,
    times: Sequence[int],
    *,
    covered_from: int = 0,
    complete: bool = True,
) -> Aligned:
    """Compare the users of one partition; return the aligned rows.

    Parameters
    ----------
    known, live
        The oracle's values, and the live values.
    attributes
        The result of ``item_attributes``; ``complete`` is true when no record of `items` is missing.
    times
        Windows are compared at each of these times (ms).
    covered_from
        All acts from this time (ms) on are known; 0 when all are.
    """
    names = known.keys.rename({"user_id": "name"}).drop("partition")
    rows = align("user", names, live.keys, ["user"])
    check_counts(findings, rows, known, live, times, covered_from)
    if not covered_from:
        check_click_times(findings, rows, known, live)
        check_clicks(findings, rows, known, live)
        check_affinities(findings, rows, known, live, attributes, max(times), complete=complete)
    return rows


def check_click_times(findings: Findings, rows: Aligned, known: Users, live: UserValues) -> None:
    """Compare the number of all clicks and the times of the last ones."""
    check(findings, rows, lambda _: "n_clicks", rows.expected(known.n_clicks()), rows.found(live.n_clicks()))
    check(
        findings,
        rows,
        lambda k: f"time of click {k[0] + 1} from the end",
        rows.expected(known.recent_ts(), -1),
        rows.found(live.recent_ts(), -1),
    )


def check_clicks(findings: Findings, rows: Aligned, known: Users, live: UserValues) -> None:
    """Check that every click of a live row is also in the records.

    With equal times (``check_click_times``), the clicks are then the same. Clicks at the same time may be in
    any order. Of the clicks at the time of its oldest click, a row may have only some.
    """
    per = ["row", "ts", "item"]
    clicked = live.clicks
    found = _at(clicked, rows.found_at).group_by(per).len("found")
    expected = _at(known.clicks, rows.expected_at).group_by(per).len("expected")
    strange = (
        found.join(expected, on=per, how="left")
        .with_columns(pl.col("expected").fill_null(0))
        .filter(pl.col("found") > pl.col("expected"))
        .sort(per)
    )
    findings.compared += len(clicked)

    def make(k: int) -> Difference:
        i, ts, item, found_, expected_ = strange.row(k)
        return rows.difference(i, f"clicks of item {item:016x} at {ts}", None, expected_, found_)

    findings.add(rows.kind, rows.keys[strange["row"].to_numpy()], make)


def check_affinities(
    findings: Findings,
    rows: Aligned,
    known: Users,
    live: UserValues,
    attributes: pl.DataFrame,
    at: int,
    *,
    complete: bool,
) -> None:
    """Compare decayed weights of categories and creators; count the users whose weights are not known."""
    left_out = np.zeros(len(rows), bool)
    for what in ("category", "creator"):
        weights, sure = known.affinities(attributes, what, at, complete=complete)
        sure = rows.expected(sure, 1).astype(bool)
        left_out |= ~sure
        both = (
            _at(weights, rows.expected_at)
            .join(_at(live.affinities(what, at), rows.found_at), on=["row", "key"], how="full", coalesce=True)
            .with_columns(pl.col("weight", "size", "found").fill_null(0.0))
            .sort("row", "key")
        )
        both = both.filter(pl.Series(sure[both["row"].to_numpy()]))
        findings.compared += len(both)
        gap = (pl.col("weight") - pl.col("found")).abs()
        bad = both.filter(~(gap <= pl.col("size") * DECAYED_REL + TINY))
        told = bad.select("row", "key", "weight", "found")
        make = _key_difference(rows, told, f"taste for {what}", at)
        findings.add(rows.kind, rows.keys[bad["row"].to_numpy()], make)
        if what == "category":
            _check_views(findings, rows, known, live, attributes, at, sure)
    findings.not_compared += int(left_out.sum())


def _check_views(
    findings: Findings,
    rows: Aligned,
    known: Users,
    live: UserValues,
    attributes: pl.DataFrame,
    at: int,
    sure: npt.NDArray[np.bool_],
) -> None:
    """Compare how long views of each category took, and how many there were, where it is ``sure``.

    A row of an earlier layout has none of the views before it was read: that is its default.
    """
    begin = rows.found(live.views_since(), -1)[rows.expected_at]
    expected = _at(known.views(begin, attributes, at), rows.expected_at)
    found = _at(live.views(at), rows.found_at).rename({"dwell": "dwell_found", "views": "views_found"})
    both = expected.join(found, on=["row", "key"], how="full", coalesce=True).sort("row", "key")
    both = both.with_columns(pl.exclude("row", "key").fill_null(0.0))
    both = both.filter(pl.Series(sure[both["row"].to_numpy()]))
    for name, feature in (("dwell", "log seconds of views of category"), ("views", "views of category")):
        findings.compared += len(both)
        wrong, value = pl.col(name) - pl.col(f"{name}_found"), pl.col(name)
        bad = both.filter(~(wrong.abs() <= value * DECAYED_REL + TINY))
        told = bad.select("row", "key", name, f"{name}_found")
        make = _key_difference(rows, told, feature, at)
        findings.add(rows.kind, rows.keys[bad["row"].to_numpy()], make)


def _key_difference(rows: Aligned, bad: pl.DataFrame, feature: str, at: int) -> Callable[[int], Difference]:
    def make(k: int) -> Difference:
        i, key, expected, found = bad.row(k)
        return rows.difference(i, f"{feature} {key:016x}", at, expected, found)

    return make


def _at(frame: pl.DataFrame, positions: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pl.DataFrame:
    """Return ``frame`` with ``row`` replaced by the position in the aligned rows."""
    return frame.with_columns(row=pl.Series(positions[frame["row"].to_numpy()], dtype=pl.Int64))
