"""Comparing the oracle with live rows, feature by feature. Pure: no broker, no store, no clock.

Live values are read from the rows by the code that serving reads them with: that is what is being verified.
A row that is missing counts as one full of zeros, on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.models.state.counts import Counts
from headrace.oracle import features as oracle
from headrace.oracle.findings import Aligned, Difference, Findings, align, check

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]

#: float32 holds every whole number up to here.
_WHOLE = 2**24
#: Relative, of decayed counts and affinities: live ones are added up in another order, with fewer digits.
DECAYED_REL = 1e-4
_TINY = 1e-6


def compare_users(
    findings: Findings,
    known: oracle.Users,
    live: Rows,
    attributes: pl.DataFrame,
    times: Sequence[int],
    *,
    covered_from: int = 0,
    complete: bool = True,
) -> Aligned:
    """Compare the rows of users of one partition; return them side by side.

    Parameters
    ----------
    known, live
        What the oracle says, and rows of ``user_state.ROW``.
    attributes
        Of items, from ``oracle.attributes``; ``complete`` when no record of `items` is missing.
    times
        Windows are compared at each (ms).
    covered_from
        Acts from here (ms) on are all known; 0 when all are.
    """
    rows = align(
        "user",
        known.keys.rename({"user_id": "name"}).drop("partition"),
        pl.DataFrame({"key": live["key"], "user": live["key"]}),
        ["user"],
    )
    check_counts(findings, rows, known, live, user_state.COUNTS, times, covered_from)
    if not covered_from:
        check_history(findings, rows, known, live)
        check_tastes(findings, rows, known, live, attributes, max(times), complete=complete)
    return rows


def compare_items(
    findings: Findings,
    known: oracle.Items,
    live: Rows,
    times: Sequence[int],
    *,
    countries: bool,
    covered_from: int = 0,
) -> Aligned:
    """Compare the rows of items, or of items in ``countries``, of one partition; return them side by side.

    ``live`` are rows of ``item_state.ROW``; the others are as in ``compare_users``.
    """
    if countries:
        live = check_country_keys(findings, live)
    rows = align(
        "item",
        known.keys,
        pl.DataFrame(
            {
                "key": live["key"],
                "item": live["item"] if countries else live["key"],
                "country": live["country"],
            }
        ),
        ["item", "country"],
    )
    check_counts(findings, rows, known, live, item_state.COUNTS, times, covered_from)
    check_item_times(findings, rows, known, live, covered_from)
    return rows


def check_counts(
    findings: Findings,
    rows: Aligned,
    known: oracle.Users | oracle.Items,
    live: Rows,
    counts: Counts,
    times: Sequence[int],
    covered_from: int,
) -> None:
    """Compare windows at every one of ``times``, and, where the whole history is there, totals and decayed.

    A window is compared for rows with no act further ahead than windows are exact for, and when it begins
    after ``covered_from`` (ms; 0 = the whole history is there).
    """
    names = counts.metrics
    newest = rows.expected(known.newest(), -1)
    for at in times:
        covered = oracle.window_starts(at) >= covered_from
        exact = newest <= at + oracle.AHEAD_MS
        if not (covered.any() and exact.any()):
            continue
        expected = rows.expected(known.windows(at))
        found = rows.found(counts.windows.read(live, at))
        check(
            findings,
            rows,
            lambda w: f"{oracle.WINDOWS[w[0]]} {names[w[1]]}",
            expected,
            found,
            at=at,
            where=exact[:, None, None] & covered[None, :, None],
            slack=np.where(expected >= _WHOLE, expected / 2**22, 0),
        )
    if covered_from:
        return
    totals = np.stack([counts.totals(live, m) for m in names], axis=-1)
    most = 2**40 - 1 if "totals_x" in (live.dtype.names or ()) else 2**32 - 1
    check(
        findings,
        rows,
        lambda m: f"total {names[m[0]]}",
        rows.expected(np.minimum(known.totals(), most)),
        rows.found(totals).astype(np.int64),
    )
    at = max(times)
    decayed = rows.expected(known.decayed(at))
    check(
        findings,
        rows,
        lambda m: f"30-day {names[m[0]]}",
        decayed,
        rows.found(counts.decayed(live, at)),
        at=at,
        slack=decayed * DECAYED_REL + _TINY,
    )


def check_history(findings: Findings, rows: Aligned, known: oracle.Users, live: Rows) -> None:
    """Compare all-time clicks and the last ones; those at the same time may stand in any order."""
    clicks = rows.expected(known.n_clicks())
    check(findings, rows, lambda _: "n_clicks", clicks, rows.found(live["n_clicks"]))
    items, times = recent(live)
    expected = rows.expected(known.recent_ts(), -1)
    found = rows.found(times, -1)
    check(findings, rows, lambda k: f"time of click {k[0] + 1} from the end", expected, found)
    # Where the times agree and every live (time, item) is one of the records', they are the same clicks; of
    # those as old as the oldest one kept, some.
    row = np.repeat(rows.found_at, items.shape[1])
    clicked = pl.DataFrame({"row": row, "ts": times.ravel(), "item": items.ravel()}).filter(pl.col("ts") >= 0)
    have = known.clicks.with_columns(row=pl.Series(rows.expected_at[known.clicks["row"].to_numpy()]))
    per = ["row", "ts", "item"]
    strange = (
        clicked.group_by(per)
        .len("found")
        .join(have.group_by(per).len("expected"), on=per, how="left")
        .with_columns(pl.col("expected").fill_null(0))
        .filter(pl.col("found") > pl.col("expected"))
        .sort(per)
    )
    findings.compared += len(clicked)

    def make(k: int) -> Difference:
        i, ts, item, found_, expected_ = strange.row(k)
        return rows.difference(i, f"clicks of item {item:016x} at {ts}", None, expected_, found_)

    findings.add(rows.kind, rows.keys[strange["row"].to_numpy()], make)


def recent(live: Rows) -> tuple[U64, I64]:
    """Return the recent items of user rows and their times, newest first, ``(n, RECENT)``; -1: no click."""
    size = user_state.RECENT
    back = np.arange(size)[None, :]
    n = live["n_clicks"][:, None]
    place = (n - 1 - back) % size
    i = np.arange(len(live))[:, None]
    there = back < n
    return live["recent"][i, place], np.where(there, live["recent_ts"][i, place], -1)


def check_tastes(
    findings: Findings,
    rows: Aligned,
    known: oracle.Users,
    live: Rows,
    attributes: pl.DataFrame,
    at: int,
    *,
    complete: bool,
) -> None:
    """Compare decayed weights of categories and creators; who cannot be compared is counted."""
    left_out = np.zeros(len(rows), bool)
    for name, what in (("cat", "category"), ("creator", "creator")):
        weights, sure = known.affinities(attributes, what, at, complete=complete)
        sure = rows.expected(sure, 1).astype(bool)
        left_out |= ~sure
        standing = np.exp2(-(at - live[f"{name}_ts"]) / oracle.HALF_LIFE_MS)
        slots = live[name].shape[1]
        found = pl.DataFrame(
            {
                "row": np.repeat(rows.found_at, slots),
                "key": live[name].ravel(),
                "found": (live[f"{name}_w"] * standing[:, None]).ravel(),
            }
        ).filter(pl.col("key") != 0)
        expected = weights.with_columns(row=pl.Series(rows.expected_at[weights["row"].to_numpy()]))
        both = (
            expected.join(found, on=["row", "key"], how="full", coalesce=True)
            .with_columns(pl.col("weight", "size", "found").fill_null(0.0))
            .sort("row", "key")
        )
        both = both.filter(pl.Series(sure[both["row"].to_numpy()]))
        findings.compared += len(both)
        bad = both.filter(
            ~((pl.col("weight") - pl.col("found")).abs() <= pl.col("size") * DECAYED_REL + _TINY)
        )
        findings.add(rows.kind, rows.keys[bad["row"].to_numpy()], _taste_of(rows, bad, what, at))
    findings.not_compared += int(left_out.sum())


def _taste_of(rows: Aligned, bad: pl.DataFrame, what: str, at: int) -> Callable[[int], Difference]:
    def make(k: int) -> Difference:
        i, key, weight, found = bad.select("row", "key", "weight", "found").row(k)
        return rows.difference(i, f"taste for {what} {key:016x}", at, weight, found)

    return make


def check_item_times(
    findings: Findings, rows: Aligned, known: oracle.Items, live: Rows, covered_from: int
) -> None:
    """Compare the times of the first event and the last click."""
    last = rows.expected(known.last_click())
    check(
        findings,
        rows,
        lambda _: "last click",
        last,
        rows.found(live["last_click"]),
        where=last >= covered_from,
    )
    if not covered_from:
        check(
            findings,
            rows,
            lambda _: "first event",
            rows.expected(known.first_ts()),
            rows.found(live["first_ts"]),
        )


def check_country_keys(findings: Findings, live: Rows) -> Rows:
    """Check that rows stand where readers look for them; return those that do."""
    key = item_state.country_key(live["item"], live["country"])
    right: Bool = live["key"] == key
    findings.compared += len(live)
    keys, expected = live["key"][~right], key[~right]

    def make(k: int) -> Difference:
        found = f"{keys[k]:016x}"
        return Difference(f"item {found}", found, "key", None, f"{expected[k]:016x}", found)

    findings.add("item", keys, make)
    return live[right]
