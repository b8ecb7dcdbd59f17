"""Comparing what rows of users keep beside counts: profiles, countries, the records applied, guard rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from aiokafka.partitioner import murmur2

from headrace.oracle.compare.aligned import Aligned, check, check_keys
from headrace.oracle.compare.findings import Difference, Findings
from headrace.oracle.compare.values import UserMarks
from headrace.oracle.features.profiles import event_countries, profiles_of
from headrace.oracle.features.since import Stories
from headrace.oracle.records.profiles import FOLLOWED, PREFERRED

Bool = npt.NDArray[np.bool_]
U64 = npt.NDArray[np.uint64]

#: Names of the kinds in ``Findings.by_kind``.
PROFILES: Final = "profiles"
COUNTRIES: Final = "countries of users"
PLACES: Final = "places of users"
GUARDS: Final = "guard rows of forgotten users"
EXPIRED: Final = "users whose row expired"


def absent_users(
    findings: Findings, stories: Stories, live: UserMarks, *, now: int, ttl_ms: int
) -> pl.Series:
    """Check that forgotten users have a guard row; return the users without a row who cannot be compared.

    Without the guard row nobody knows where the counts of a forgotten user begin.

    Parameters
    ----------
    stories
        Those of one partition.
    now, ttl_ms
        A row idle for longer than ``ttl_ms`` before ``now`` (both in ms) may have been deleted. A row with a
        profile never is.
    """
    there = live.marks.select("user")
    forgotten = stories.forgotten
    gone = forgotten.join(there, on="user", how="anti")
    missing = gone.filter(~pl.col("last") | (pl.col("at") >= now - ttl_ms))
    findings.compared += len(forgotten)
    findings.count(GUARDS, len(forgotten) - len(gone) + len(missing), len(gone) - len(missing))

    def make(k: int) -> Difference:
        user, name = missing.select("user", "user_id").row(k)
        return Difference(f"user {name}", f"{user:016x}", "guard row", None, "a row", "no row")

    findings.add("user", missing["user"].to_numpy(), make)
    idle = _idle(stories, now, ttl_ms).join(there, on="user", how="anti").join(gone, on="user", how="anti")
    findings.count(EXPIRED, 0, len(idle))
    return pl.concat([gone["user"], idle["user"]])


def _idle(stories: Stories, now: int, ttl_ms: int) -> pl.DataFrame:
    """Return the users without a profile whose newest act is older than ``ttl_ms``."""
    acts = pl.concat([stories.events.select("user", "ts"), stories.shown.select("user", "ts")])
    newest = acts["ts"].max()
    limit = min(now, now if newest is None else int(str(newest))) - ttl_ms
    old = acts.group_by("user").agg(pl.col("ts").max()).filter(pl.col("ts") < limit)
    return old.select("user").join(stories.named, on="user", how="anti")


def compare_marks(
    findings: Findings, rows: Aligned, stories: Stories, live: UserMarks, *, covered_from: int = 0
) -> None:
    """Compare the offsets of rows with the last records of their users, and check where counting begins.

    Parameters
    ----------
    rows
        The rows of ``live``, aligned.
    stories
        All records of the users of the partition.
    covered_from
        All acts from this time (ms) on are known; 0 when all are.
    """
    marks = live.marks
    for name, records in (("offset", stories.events), ("shown_offset", stories.shown)):
        last = records.group_by("user").agg(pl.col("offset").max(), pl.col("timestamp").max())
        told = by_user(rows, last)
        check(
            findings,
            rows,
            _named(name),
            told["offset"].fill_null(-1).to_numpy(),
            rows.found(marks[name].to_numpy(), -1),
            where=(told["timestamp"].fill_null(0) >= covered_from).to_numpy(),
        )
    if not covered_from:
        _check_since(findings, stories, marks)
    _check_places(findings, rows, rows.found(marks["place"].to_numpy(), -1))


def _check_places(findings: Findings, rows: Aligned, found: npt.NDArray[np.int64]) -> None:
    """Check the hashes that decide partitions.

    A row of an earlier layout has none until the next record of its user (-1): that is its default, and such
    rows are left out.
    """
    names = [name or "" for name in rows.names]
    expected = np.array([murmur2(name.encode()) & 0x7FFFFFFF for name in names], np.int64)
    known = (found >= 0) & np.array([name != "" for name in names], np.bool_)
    check(findings, rows, _named("place"), expected, found, where=known)
    findings.count(PLACES, int(known.sum()), int((~known).sum()))


def _check_since(findings: Findings, stories: Stories, marks: pl.DataFrame) -> None:
    """Check that counting begins after a record of the user; but for views only if the user was forgotten."""
    forgotten = stories.forgotten.select("user", "times")
    starts = (("since", stories.events), ("shown_since", stories.shown), ("views_since", stories.events))
    for name, records in starts:
        begun = marks.filter(pl.col(name) >= 0).select("user", offset=pl.col(name))
        findings.compared += len(marks)
        strange = begun.join(records, on=["user", "offset"], how="anti")
        told = stories.whole and name != "views_since"  # that of rows of an earlier layout begins without it
        never = begun.join(forgotten, on="user", how="anti") if told else begun.clear()
        for bad, why in ((strange, "the offset of a record of the user"), (never, "-1: never forgotten")):
            findings.add("user", bad["user"].to_numpy(), _begin_difference(stories, bad, name, why))


def _begin_difference(
    stories: Stories, bad: pl.DataFrame, name: str, why: str
) -> Callable[[int], Difference]:
    names = dict(
        pl.concat([f.select("user", "user_id") for f in (stories.events, stories.users)]).iter_rows()
    )

    def make(k: int) -> Difference:
        user, offset = bad.row(k)
        key = f"{user:016x}"
        return Difference(f"user {names.get(user) or key}", key, name, None, why, offset)

    return make


def compare_profiles(
    findings: Findings, rows: Aligned, stories: Stories, live: UserMarks, *, covered_from: int = 0
) -> None:
    """Compare profiles, and the countries of users.

    A row has the last valid record of `users`, and the country of the last event with one.

    Parameters are as in ``compare_marks``; ``stories`` has only what the rows count (``Stories.after``).
    """
    told = by_user(rows, profiles_of(stories), event_countries(stories))
    marks = live.marks

    def found(name: str, empty: float = 0) -> npt.NDArray[Any]:
        return rows.found(marks[name].to_numpy(), empty)

    has = (~told["gone"].fill_null(True)).to_numpy()
    sure = told["sure"].fill_null(stories.whole).to_numpy() | (
        told["sure"].is_null().to_numpy() & (found("profile_offset", -1) < 0)
    )
    last, mark = told["offset"].fill_null(-1).to_numpy(), found("profile_offset", -1)
    last = np.where(mark == last - stories.users_base, mark, last)
    of_profile = (
        ("has_profile", has, 0, sure),
        ("profile_offset", last, -1, sure),
        ("profile_ts", told["timestamp"].fill_null(-1).to_numpy(), -1, sure & has),
        ("age", np.where(has, told["age"].fill_null(-1).to_numpy(), -1), -1, sure),
    )
    for name, expected, empty, where in of_profile:
        check(findings, rows, _named(name), expected, found(name, empty), where=where)
    for name, size in (("preferred", PREFERRED), ("followed", FOLLOWED)):
        lists = padded(told[name].to_list(), size)
        there = rows.found(live.labels(name))
        check_keys(findings, rows, _numbered(name), lists, there, where=sure)
    findings.count(PROFILES, int((sure & has).sum()), int((~sure).sum()))
    home = np.where(has, told["country"].fill_null(0).to_numpy(), 0)
    check_keys(findings, rows, lambda _: "home", home, found("home"), where=sure)
    language = np.where(has, told["language"].fill_null(0).to_numpy(), 0)
    check_keys(findings, rows, lambda _: "language", language, found("language"), where=sure)
    _check_country(findings, rows, told["seen"].fill_null(0).to_numpy(), found("country"), covered_from)


def _check_country(
    findings: Findings,
    rows: Aligned,
    seen: U64,
    found: U64,
    covered_from: int,
) -> None:
    # Deleted events may have had the last country of a user whose other events have none.
    exact = (seen != 0) | (covered_from == 0)
    check_keys(findings, rows, lambda _: "country", seen, found, where=exact)
    findings.count(COUNTRIES, int(exact.sum()), int((~exact).sum()))


def _named(name: str) -> Callable[[tuple[int, ...]], str]:
    return lambda _: name


def _numbered(name: str) -> Callable[[tuple[int, ...]], str]:
    return lambda k: f"{name} {k[0] + 1}"


def by_user(rows: Aligned, *frames: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of ``frames`` in the order of all rows; null where a frame lacks the user."""
    out = pl.DataFrame({"user": rows.keys}, {"user": pl.UInt64})
    for frame in frames:
        out = out.join(frame, on="user", how="left", maintain_order="left")
    return out


def padded(lists: list[list[int] | None], size: int) -> U64:
    """Return lists of keys as rows of ``size``, filled up with zeros."""
    out = np.zeros((len(lists), size), np.uint64)
    for i, keys in enumerate(lists):
        if keys:
            out[i, : len(keys)] = keys
    return out
