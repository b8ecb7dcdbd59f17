"""The pairs of items that the users of all partitions made, as far as the topics tell them."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from headrace.oracle.features.pairs import Neighbours, neighbour_weights, pairs_of
from headrace.oracle.features.since import Stories


@dataclass
class PartitionPairs:
    """Collects pairs, partition of users by partition of users.

    Attributes
    ----------
    at
        The time of the weights, ms.
    gap_ms
        A longer silence between two clicks starts a new session.
    unsure
        Items whose pairs are not known: of users who were forgotten. After a crash `users` and `events` may
        be delivered again in another order: then pairs that were sent before the crash are of another
        history than the row.
    """

    at: int
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
        self._parts.append(neighbour_weights(pairs_of(clicks, self.gap_ms), self.at))
        told = clicks.join(_untold(stories, since), on="user", how="semi")
        self.unsure = pl.concat([self.unsure, told["item"]]).unique()

    def neighbours(self) -> Neighbours:
        """Return the neighbours of all items."""
        empty = neighbour_weights(pairs_of(pl.DataFrame(schema=_CLICKS), self.gap_ms), self.at)
        return Neighbours.of([empty, *self._parts], self.at)


_CLICKS = {"user": pl.UInt64, "begun": pl.Boolean, "item": pl.UInt64, "ts": pl.Int64}


def _untold(stories: Stories, since: pl.DataFrame) -> pl.DataFrame:
    """Return the users who were forgotten: it is not sure between which of their clicks.

    Their tombstones may have been compacted away; then their rows tell.
    """
    return pl.concat(
        [stories.forgotten.select("user"), since.filter(pl.col("since") >= 0).select("user")]
    ).unique()
