"""What the users of a rollout's two arms did, computed from `examples`; and what its record says of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from headrace.oracle.records.shown import read_outcomes

#: Users are put into so many clusters, by the highest bits of their keys.
CLUSTERS: Final = 128
#: Longer watching counts as this much, ms.
MOST_WATCH_MS: Final = 600_000
#: The arms, and the totals of each, in the order of the record.
ARMS: Final = ("live", "candidate")
TOTALS: Final = ("shown", "clicks", "watch_ms")


@dataclass(frozen=True)
class ArmRecord:
    """A record of a rollout.

    Attributes
    ----------
    versions
        Of the live ranker, and of the candidate.
    since
        Examples of lists shown from this time (ms) on are counted.
    begin, read
        By partition of `examples`, the first offset counted and the one after the last.
    totals
        [arm][total][cluster]
    """

    name: str
    versions: tuple[str, str]
    since: int
    begin: dict[int, int]
    read: dict[int, int]
    totals: list[list[list[int]]]


def read_record(value: bytes) -> ArmRecord | None:
    """Return the content of a record; None when it has none."""
    try:
        told: dict[str, Any] = json.loads(value)
        begin, read = ({int(p): int(at) for p, at in told[k].items()} for k in ("begin", "read"))
        live, candidate = told["versions"]
        name = f"{told['rollout']} at {told['share']} %"
        return ArmRecord(name, (live, candidate), int(told["since"]), begin, read, told["totals"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def arm_totals(raw: pl.DataFrame, record: ArmRecord, *, max_bytes: int, spec: str) -> pl.DataFrame:
    """Return arm, cluster, and ``TOTALS``, of the records of `examples` ``raw``; only what is not zero."""
    told = read_outcomes(raw, max_bytes=max_bytes).filter(
        (pl.col("verdict") == "")
        & (pl.col("spec") == spec)
        & (pl.col("ts") >= record.since)
        & pl.col("ranker").is_in(record.versions)
    )
    arm = pl.when(pl.col("ranker") == record.versions[0]).then(pl.lit(ARMS[0])).otherwise(pl.lit(ARMS[1]))
    told = told.with_columns(arm=arm, cluster=pl.col("user") // (2**64 // CLUSTERS))
    return told.group_by("arm", "cluster").agg(
        pl.len().cast(pl.Int64).alias("shown"),
        pl.col("clicked").cast(pl.Int64).sum().alias("clicks"),
        pl.col("dwell_ms").clip(upper_bound=MOST_WATCH_MS).sum().alias("watch_ms"),
    )
