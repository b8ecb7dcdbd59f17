"""Which version of a model an impression must name."""

from __future__ import annotations

from typing import Final

import polars as pl

#: A published model is in use everywhere after this time, ms.
KNOWN_MS: Final = 30_000


def named_versions(shown: pl.DataFrame, versions: pl.DataFrame, *, whole: bool) -> pl.DataFrame:
    """Return the impressions that must name a version, with the oldest one they may name.

    An impression made and logged more than ``KNOWN_MS`` after a publication names that version or a newer
    one. Both times count: the clock of a worker may step forward between them. And no list was
    logged later than one that follows it in its partition says: a clock may be ahead for a while.

    Parameters
    ----------
    shown
        ``SHOWN``.
    versions
        ``VERSIONS``.
    whole
        Whether `models` still has every record. If not, a name that it does not have is neither right nor
        wrong.

    Returns
    -------
    DataFrame
        user, user_id, ts, online, version (the oldest that is right), sure, right.
    """
    usable = versions.filter(pl.col("fits") & pl.col("finite")).sort("offset").with_row_index("nth")
    names = usable.group_by("version").agg(named=pl.col("nth").max().cast(pl.Int64))
    known = usable.select("version", least=pl.col("nth").cast(pl.Int64), from_=pl.col("timestamp") + KNOWN_MS)
    # Publications are in the order of their offsets, whatever their timestamps say.
    known = known.with_columns(pl.col("from_").cum_max())
    logged = pl.col("timestamp").reverse().cum_min().reverse().over("partition")
    told = (
        shown.sort("partition", "offset")
        .with_columns(timestamp=logged)
        .filter((pl.col("verdict") == "") & pl.col("online").is_not_null())
        .select("user", "user_id", "ts", "online", made=pl.min_horizontal("ts", "timestamp"))
        .sort("made")
        .join_asof(known, left_on="made", right_on="from_", allow_exact_matches=False)
        .filter(pl.col("version").is_not_null())
        .join(names, left_on="online", right_on="version", how="left")
    )
    named = pl.col("named")
    return told.with_columns(
        sure=named.is_not_null() | (pl.col("online") == "") | whole,
        right=(named >= pl.col("least")).fill_null(False),
    )
