"""The pairs of items that the users of all partitions made, as far as the topics tell them."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from headrace.oracle.features.pairs import Neighbours, cut_pairs, neighbour_weights, pairs_of
from headrace.oracle.features.since import Stories


@dataclass
class PartitionPairs:
    """Collects pairs, partition of users by partition of users.

    Attributes
    ----------
    gap_ms
        A longer silence between two clicks starts a new session.
    unsure
        Items with pairs that are not known. Of a user who was forgotten once, these are the pairs that the
        tombstone has cut: of a click after it with one before it, in the same session. A worker that was
        killed between both may have sent them before it read the tombstone; what was sent counts. All other
        pairs are known, because a tombstone is durable before later events are applied.

        It is not known between which clicks other tombstones than the last of a user were applied, and where
        the last one was when there is no row any more. So pairs of clicks before the last one, or all, are
        left out then.
    """

    gap_ms: int
    unsure: pl.Series = field(default_factory=lambda: pl.Series("item", [], pl.UInt64))
    _parts: list[pl.DataFrame] = field(default_factory=list)

    def add(self, stories: Stories, marks: pl.DataFrame) -> None:
        """Add the clicks of the users of one partition, whose rows say in ``marks`` since when they count."""
        since = marks.select("user", "since")
        clicks = (
            stories.events.filter(pl.col("kind") == "click")
            .sort("offset")
            .join(since, on="user", how="left", maintain_order="left")
            .with_columns(begun=pl.col("offset") > pl.col("since").fill_null(-1))
        )
        self._parts.append(neighbour_weights(pairs_of(clicks, self.gap_ms)))
        self.unsure = pl.concat([self.unsure, self._unsure(stories, clicks, since)]).unique()

    def _unsure(self, stories: Stories, clicks: pl.DataFrame, since: pl.DataFrame) -> pl.Series:
        """Return the items of pairs that are not known."""
        gone = stories.forgotten.join(since, on="user", how="anti")
        often = _often(stories, since).join(gone, on="user", how="anti")
        cut = clicks.join(since.filter(pl.col("since") >= 0), on="user", how="semi", maintain_order="left")
        before = clicks.filter(~pl.col("begun")).join(often, on="user", how="semi")
        lost = clicks.join(gone, on="user", how="semi")
        return pl.concat([cut_pairs(cut, self.gap_ms), before["item"], lost["item"]])

    def neighbours(self) -> Neighbours:
        """Return the neighbours of all items."""
        empty = neighbour_weights(pairs_of(pl.DataFrame(schema=_CLICKS), self.gap_ms))
        return Neighbours.of([empty, *self._parts])


_CLICKS = {"user": pl.UInt64, "begun": pl.Boolean, "item": pl.UInt64, "ts": pl.Int64}


def _often(stories: Stories, since: pl.DataFrame) -> pl.DataFrame:
    """Return the users who were, or may have been, forgotten more than once."""
    if stories.whole:
        return stories.forgotten.filter(pl.col("times") > 1).select("user")
    return since.filter(pl.col("since") >= 0).select("user")  # earlier tombstones may be compacted away
