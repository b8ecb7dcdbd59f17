"""Comparing what users were shown: the last items, their times and counts, and where counting begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from headrace.oracle.compare.findings import Difference, Findings
from headrace.oracle.compare.values import ShownValues
from headrace.oracle.features.shown import shown_lists
from headrace.oracle.features.since import Stories, after

#: Names of the kinds in ``Findings.by_kind``: rows, and the items in them.
ROWS: Final = "rows of what users were shown"
ITEMS: Final = "items shown lately"

_ENTRY = ["item", "second", "times"]


def compare_shown(
    findings: Findings,
    stories: Stories,
    live: ShownValues,
    users: pl.DataFrame,
    *,
    now: int,
    ttl_ms: int,
    covered_from: int = 0,
) -> int:
    """Compare the rows of one partition; return how many there are.

    Parameters
    ----------
    stories
        All records of the users of the partition.
    users
        user, shown_since of the rows of users: where a user was forgotten, this row was cleared too.
    now, ttl_ms
        A row idle for longer than ``ttl_ms`` before ``now`` (both in ms) may have been deleted.
    covered_from
        All impressions from this time (ms) on are known; 0 when all are. Else no row is compared.
    """
    marks = live.marks
    if covered_from:
        findings.count(ROWS, 0, len(marks))
        return len(marks)
    shown = stories.shown
    told = shown.group_by("user").agg(pl.col("user_id").first(), pl.col("offset").max(), pl.col("ts").max())
    _check_rows(findings, stories, told, marks, min(now, _newest(shown, now)) - ttl_ms)
    both = marks.join(told, on="user", how="inner", suffix="_told", maintain_order="left")
    _check_offsets(findings, both)
    _check_cleared(findings, stories, both.join(users, on="user", how="left"))
    counted = after(shown.join(marks.select("user"), on="user", how="semi"), marks, "since")
    _check_updated(findings, stories, both, counted)
    _check_lists(findings, told, shown_lists(counted), live.lists)
    findings.count(ROWS, len(marks))
    return len(marks)


def _newest(shown: pl.DataFrame, now: int) -> int:
    newest = shown["ts"].max()
    return now if newest is None else int(str(newest))


def _check_rows(
    findings: Findings, stories: Stories, told: pl.DataFrame, marks: pl.DataFrame, limit: int
) -> None:
    """Check that there is a row for every user who was shown something, and no other."""
    gone = stories.forgotten.select("user", "at")
    missing = (
        told.join(marks, on="user", how="anti")
        .join(gone, on="user", how="left")
        .filter(pl.min_horizontal("ts", "at") >= limit)
    )
    findings.compared += len(told)
    _add(findings, missing, "row", [("a row", "no row")] * len(missing))
    strange = marks.join(told, on="user", how="anti").with_columns(user_id=pl.lit(None, pl.String))
    _add(findings, strange, "row", [("no row: nothing was shown", "a row")] * len(strange))


def _check_offsets(findings: Findings, both: pl.DataFrame) -> None:
    findings.compared += len(both)
    bad = both.filter(pl.col("offset") != pl.col("offset_told"))
    _add(findings, bad, "offset", bad.select("offset_told", "offset").rows())


def _check_cleared(findings: Findings, stories: Stories, both: pl.DataFrame) -> None:
    """Check that rows were cleared by the last tombstone of their users, after a record of theirs."""
    findings.compared += 2 * len(both)
    began = both.filter(pl.col("since") >= 0).select("user", "user_id", offset=pl.col("since"))
    strange = began.join(stories.shown, on=["user", "offset"], how="anti")
    _add(findings, strange, "since", [("the offset of a record of the user", at) for at in strange["offset"]])
    cleared, forgotten = pl.col("forgotten") >= 0, pl.col("shown_since").fill_null(-1) >= 0
    half = both.filter((cleared != (pl.col("since") >= 0)) | (forgotten & ~cleared))
    _add(findings, half, "forgotten", [("the offset of a tombstone", at) for at in half["forgotten"]])
    if stories.whole:
        last = _tombstones(stories).select("user", last=pl.col("offset"))
        wrong = (
            both.filter(cleared)
            .join(last, on="user", how="left")
            .filter(~(pl.col("last") - pl.col("forgotten")).is_in([0, stories.users_base]).fill_null(False))
        )
        _add(findings, wrong, "forgotten", wrong.select("last", "forgotten").rows())


def _tombstones(stories: Stories) -> pl.DataFrame:
    """Return the last tombstone of each user: user, offset, timestamp."""
    gone = stories.users.filter((pl.col("verdict") == "") & pl.col("gone"))
    return gone.group_by("user", maintain_order=True).agg(pl.col("offset", "timestamp").last())


def _check_updated(findings: Findings, stories: Stories, both: pl.DataFrame, counted: pl.DataFrame) -> None:
    """Compare the time of the newest impression, or of the tombstone."""
    newest = counted.group_by("user").agg(newest=pl.col("ts").max())
    gone = _tombstones(stories).select("user", at=pl.col("timestamp").clip(lower_bound=0))
    told = both.join(newest, on="user", how="left").join(gone, on="user", how="left")
    known = told.filter((pl.col("forgotten") < 0) | pl.col("at").is_not_null())
    at = pl.when(pl.col("forgotten") >= 0).then("at").otherwise(0)
    known = known.with_columns(expected=pl.max_horizontal("newest", at))
    findings.compared += len(known)
    bad = known.filter(pl.col("expected") != pl.col("updated"))
    _add(findings, bad, "updated", bad.select("expected", "updated").rows())


def _check_lists(findings: Findings, told: pl.DataFrame, known: pl.DataFrame, live: pl.DataFrame) -> None:
    """Compare the items, place by place."""
    both = known.join(live, on=["user", "place"], how="full", coalesce=True, suffix="_found")
    findings.compared += len(both)
    findings.count(ITEMS, len(known))
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_found")) for name in _ENTRY)
    bad = both.filter(~same).sort("user", "place").join(told, on="user", how="left", maintain_order="left")
    entries = [
        tuple(map(_entry, (row[:3], row[3:])))
        for row in bad.select(*_ENTRY, *(f"{name}_found" for name in _ENTRY)).iter_rows()
    ]
    _add(findings, bad, [f"item {place + 1}" for place in bad["place"]], entries)


def _entry(told: Sequence[Any]) -> str:
    item, second, times = told
    return "none" if item is None else f"{item:016x} at {second} s, {times} times"


def _add(
    findings: Findings, bad: pl.DataFrame, feature: str | list[str], values: Sequence[Sequence[Any]]
) -> None:
    """Add a difference for every row of ``bad`` (user, user_id); ``values`` are expected and found."""

    def make(k: int) -> Difference:
        user, name = bad.select("user", "user_id").row(k)
        key, what = f"{user:016x}", feature if isinstance(feature, str) else feature[k]
        return Difference(f"user {name or key}", key, f"shown lately: {what}", None, *values[k])

    findings.add("shown", bad["user"].to_numpy(), make)
