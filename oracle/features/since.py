"""Where the counts of a user begin: a row counts what came after the last time its user was forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from headrace.oracle.features.judge import accepted


@dataclass(frozen=True)
class Stories:
    """The records of the users of one partition.

    Attributes
    ----------
    events, shown
        Accepted ``EVENTS`` and valid ``SHOWN``.
    users
        ``USERS``, refused ones too.
    whole
        Whether `users` still has every record ever written: it was not compacted.
    users_base
        By how much the offsets of ``users`` may be larger than those in rows: records from before the topic
        lost its end kept theirs.
    """

    events: pl.DataFrame
    shown: pl.DataFrame
    users: pl.DataFrame
    whole: bool = True
    users_base: int = 0

    @classmethod
    def of(
        cls, judged: pl.DataFrame, shown: pl.DataFrame, users: pl.DataFrame, *, whole: bool = True
    ) -> Stories:
        """Return the stories in judged events and in all records of the two other topics."""
        seen = shown.filter((pl.col("verdict") == "") & (pl.col("user") != 0))
        return cls(accepted(judged), seen, users.sort("partition", "offset"), whole)

    def of_partition(self, number: int) -> Stories:
        """Return those of one partition."""
        mine = pl.col("partition") == number
        events, shown, users = (f.filter(mine) for f in (self.events, self.shown, self.users))
        return replace(self, events=events, shown=shown, users=users)

    def effective(self, base: Mapping[str, int]) -> Stories:
        """Return the stories with the offsets that rows keep: larger by ``base`` (events, shown, users)."""
        if not any(base.values()):
            return self
        events, shown, told = (
            frame.with_columns(pl.col("offset") + base[name])
            for name, frame in (("events", self.events), ("shown", self.shown), ("users", self.users))
        )
        return Stories(events, shown, told, self.whole and not base["users"], base["users"])

    def after(self, marks: pl.DataFrame) -> Stories:
        """Return what rows count: events after their ``since``, impressions after their ``shown_since``.

        Parameters
        ----------
        marks
            user, since, shown_since of each row; -1: everything counts, as for users without a row.
        """
        events, shown = after(self.events, marks, "since"), after(self.shown, marks, "shown_since")
        return replace(self, events=events, shown=shown)

    def without(self, users: pl.Series) -> Stories:
        """Return all but those of ``users``."""
        gone = users.to_frame("user")
        events, shown, told = (
            f.join(gone, on="user", how="anti") for f in (self.events, self.shown, self.users)
        )
        return replace(self, events=events, shown=shown, users=told)

    @property
    def named(self) -> pl.DataFrame:
        """The users that valid records of `users` name: partition, user, user_id, ts (of the newest one)."""
        told = self.users.filter(pl.col("verdict") == "")
        newest = pl.col("timestamp").max()
        return told.group_by("partition", "user").agg(pl.col("user_id").first(), ts=newest)

    @property
    def forgotten(self) -> pl.DataFrame:
        """The users with a tombstone.

        user, user_id, times (how many), at (timestamp of the last, ms), last (whether no profile follows).
        """
        told = self.users.filter(pl.col("verdict") == "")
        gone = pl.col("gone")
        return (
            told.group_by("user", maintain_order=True)
            .agg(
                pl.col("user_id").last(),
                times=gone.sum(),
                at=pl.col("timestamp").filter(gone).last(),
                last=gone.last(),
            )
            .filter(pl.col("times") > 0)
        )


def after(frame: pl.DataFrame, marks: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return the records after the offset that ``column`` of ``marks`` has for their user (-1: all)."""
    begun = marks.filter(pl.col(column) >= 0).select("user", begin=pl.col(column))
    if begun.is_empty():
        return frame
    told = frame.join(begun, on="user", how="left", maintain_order="left")
    return told.filter(pl.col("offset") > pl.col("begin").fill_null(-1)).drop("begin")
