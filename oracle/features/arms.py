"""What the users of a rollout's two arms did, computed from `examples`; and what its record says of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from headrace.oracle.records.shown import read_outcomes

#: Users are put into so many clusters, by the highest bits of their keys.
CLUSTERS: Final = 128
#: Totals of the slots of which it is known what the shadow has there. The last three are in millionths.
SHADOW: Final = ("shown", "matches", "clicks", "weight", "weighted_clicks", "robust")
#: A record has at most so many candidates in the shadow.
MOST_SHADOWS: Final = 16
#: No weight is larger.
MOST_WEIGHT: Final = 100.0
#: Longer watching counts as this much, ms.
MOST_WATCH_MS: Final = 600_000
#: The arms, and the totals of each, in the order of the record.
ARMS: Final = ("live", "candidate")
TOTALS: Final = ("shown", "clicks", "watch_ms")
#: Users of a period, and those of them who came in the next one.
RETURNS: Final = ("came", "returned")
#: What is tried, and the key of its record.
KEYS: Final = {"ranker": b"rollout", "settings": b"settings-rollout"}


NO_RETURNS: Final = [[[0] * CLUSTERS] * len(RETURNS)] * len(ARMS)


@dataclass(frozen=True)
class ArmRecord:
    """A record of a rollout.

    Attributes
    ----------
    kind
        What is tried: the column of the version.
    versions
        Of the live ranker (or settings), and of the candidate.
    since
        Examples of lists shown from this time (ms) on are counted.
    begin, read
        By partition of `examples`, the first offset counted and the one after the last.
    totals
        [arm][total][cluster]
    shadows
        version -> [total][cluster], of each candidate in the shadow.
    return_ms
        Length of a period; 0: returns are not counted.
    returns
        [arm][``RETURNS``][cluster]
    """

    kind: str
    name: str
    versions: tuple[str, str]
    since: int
    begin: dict[int, int]
    read: dict[int, int]
    totals: list[list[list[int]]]
    shadows: dict[str, list[list[int]]]
    return_ms: int
    returns: list[list[list[int]]]


def read_record(value: bytes, kind: str) -> ArmRecord | None:
    """Return the content of a record; None when it has none."""
    try:
        told: dict[str, Any] = json.loads(value)
        begin, read = ({int(p): int(at) for p, at in told[k].items()} for k in ("begin", "read"))
        live, candidate = told["versions"]
        name = f"{told['rollout']} at {told['share']} %"
        since, totals = int(told["since"]), told["totals"]
        # Records of older versions have one shadow, that of the candidate.
        shadows = dict(told["shadows"] if "shadows" in told else {candidate: told["shadow"]})
        returns = int(told.get("return_ms", 0)), told.get("returns") or NO_RETURNS
        return ArmRecord(kind, name, (live, candidate), since, begin, read, totals, shadows, *returns)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def counted(raw: pl.DataFrame, record: ArmRecord, *, max_bytes: int, spec: str) -> pl.DataFrame:
    """Return those ``OUTCOMES`` of records of `examples` that count, with ``arm`` and ``cluster``."""
    told = read_outcomes(raw, max_bytes=max_bytes).filter(
        (pl.col("verdict") == "")
        & (pl.col("spec") == spec)
        & (pl.col("ts") >= record.since)
        & pl.col(record.kind).is_in(record.versions)
    )
    arm = pl.when(pl.col(record.kind) == record.versions[0]).then(pl.lit(ARMS[0])).otherwise(pl.lit(ARMS[1]))
    return told.with_columns(arm=arm, cluster=pl.col("user") // (2**64 // CLUSTERS))


def arm_totals(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Return arm, cluster, and ``TOTALS``, of the result of ``counted``; only what is not zero."""
    return outcomes.group_by("arm", "cluster").agg(
        pl.len().cast(pl.Int64).alias("shown"),
        pl.col("clicked").cast(pl.Int64).sum().alias("clicks"),
        pl.col("dwell_ms").clip(upper_bound=MOST_WATCH_MS).sum().alias("watch_ms"),
    )


def return_totals(outcomes: pl.DataFrame, record: ArmRecord) -> pl.DataFrame:
    """Return arm, cluster and ``RETURNS``, of the result of ``counted``; only what is not zero.

    Of the periods since the stage began whose next one is over: something was shown in the one after it.
    """
    if not record.return_ms or not len(outcomes):
        return pl.DataFrame(
            schema={"arm": pl.String, "cluster": pl.UInt64, **dict.fromkeys(RETURNS, pl.Int64)}
        )
    period = (pl.col("ts") - record.since) // record.return_ms
    came = outcomes.select("arm", "cluster", "user", period=period).unique()
    again = came.select("user", period=pl.col("period") - 1, again=pl.lit(1, pl.Int64)).unique()
    over = came.filter(pl.col("period") <= pl.col("period").max() - 2)
    return (
        over.join(again, on=["user", "period"], how="left")
        .group_by("arm", "cluster")
        .agg(pl.len().cast(pl.Int64).alias("came"), pl.col("again").sum().alias("returned"))
    )


def shadow_versions(outcomes: pl.DataFrame, record: ArmRecord) -> list[str]:
    """Return the versions that must be in the record's shadows, and those that are.

    Settings have no shadow. A full record takes no further ones.
    """
    if record.kind != "ranker":
        return []
    told = outcomes.filter(pl.col("arm") == ARMS[0])["shadow"].drop_nulls().unique().to_list()
    full = len(record.shadows) >= MOST_SHADOWS
    return sorted({*record.shadows, *([] if full else told)})


def shadow_totals(outcomes: pl.DataFrame, version: str) -> pl.DataFrame:
    """Return cluster and ``SHADOW`` of one candidate, of the result of ``counted``; only what is not zero."""
    rows = [
        (cluster, 1, int(match), int(clicked), *map(_millionths, _weighed(match, p, clicked, score, value)))
        for cluster, match, p, clicked, score, value in outcomes.filter(
            (pl.col("arm") == ARMS[0]) & (pl.col("shadow") == version)
        )
        .select("cluster", "match", "propensity", "clicked", "score", "value")
        .iter_rows()
    ]
    schema = {"cluster": pl.UInt64, **dict.fromkeys(SHADOW, pl.Int64)}
    return pl.DataFrame(rows, schema, orient="row").group_by("cluster").agg(pl.col(SHADOW).sum())


def _weighed(
    match: bool, propensity: float, clicked: bool, score: float, value: float
) -> tuple[float, float, float]:
    """Return weight, weighted click and doubly robust value of a slot."""
    weight = 1 / max(propensity, 1 / MOST_WEIGHT) if match else 0.0
    score, value = (min(max(q, 0.0), 1.0) for q in (score, value))
    return weight, weight * clicked, value + weight * (clicked - score)


def _millionths(x: float) -> int:
    return round(x * 1_000_000)
