"""The logs of partitions over growths: where records are counted since the partitions were made more.

Each new partition goes on where the log of its parent, ``partition % old``, was cut. The records of a line
have growing *numbers*: those of the parent first. A growth is given as (old, new, cuts, kept): the number of
partitions before and after, for each old partition the offset at which its log was cut, and up to which
offset it is still that log. After that, or from the beginning when it is 0, the topic was made again or has
lost its records, and what is there belongs to no new partition. Numbers go on after the cut all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import polars as pl
from aiokafka.partitioner import murmur2

#: (old, new, cuts, kept), the oldest growth first.
Grown: TypeAlias = Sequence[tuple[int, int, Sequence[int], Sequence[int]]]


def shifts(growths: Grown, partitions: int) -> list[int]:
    """Return for each partition by how much the numbers of its own records are larger than their offsets."""
    out = [0] * partitions
    for old, new, cuts, _ in growths:
        for child in range(old, min(new, partitions)):
            out[child] = out[child % old] + cuts[child % old]
    return out


def numbered(frame: pl.DataFrame, growths: Grown) -> pl.DataFrame:
    """Return records with their numbers in the column ``number``."""
    if not growths:
        return frame.with_columns(number="offset")
    shift = shifts(growths, growths[-1][1])
    by = pl.col("partition").replace_strict(list(range(len(shift))), shift, default=0, return_dtype=pl.Int64)
    return frame.with_columns(number=pl.col("offset") + by)


def inherited(events: pl.DataFrame, growths: Grown) -> pl.DataFrame:
    """Return the lines of all partitions: their own records, and copies of those of their parents.

    The column ``offset`` has the number; ``own`` has the offset of a record of the partition itself, and is
    null in copies.
    """
    out = numbered(events, growths).with_columns(own="offset", offset="number").drop("number")
    for old, new, _, kept in growths:
        shift = shifts(growths, old)
        copies = [
            out.filter(
                (pl.col("partition") == parent) & (pl.col("offset") < kept[parent] + shift[parent])
            ).with_columns(partition=pl.lit(child, pl.Int32), own=pl.lit(None, pl.Int64))
            for child in range(old, new)
            for parent in (child % old,)
        ]
        out = pl.concat([out, *copies])
    return out


def own(lines: pl.DataFrame) -> pl.DataFrame:
    """Return the own records of the result of ``inherited``, with their offsets."""
    return lines.filter(pl.col("own").is_not_null()).with_columns(offset="own").drop("own")


def settled(frame: pl.DataFrame, growths: Grown) -> pl.DataFrame:
    """Return records of users in the partitions where their users are now, by partition and number.

    The column ``offset`` has the number. A record without a user stays where it is.
    """
    if not growths:
        return frame
    out = numbered(frame, growths).with_columns(offset="number").drop("number")
    names = out["user_id"].drop_nulls().unique()
    homes = pl.DataFrame(
        {"user_id": names, "home": [murmur2(name.encode()) & 0x7FFFFFFF for name in names]},
        {"user_id": pl.String, "home": pl.Int64},
    )
    out = out.join(homes, on="user_id", how="left", maintain_order="left")
    for old, new, _, kept in growths:
        shift = shifts(growths, old)
        cut = pl.col("partition").replace_strict(
            list(range(old)), [a + b for a, b in zip(kept, shift, strict=True)], default=-1,
            return_dtype=pl.Int64,
        )  # fmt: skip
        moves = (pl.col("offset") < cut) & pl.col("home").is_not_null()
        home = (pl.col("home") % new).cast(pl.Int32)
        out = out.with_columns(partition=pl.when(moves).then(home).otherwise("partition"))
    return out.drop("home").sort("partition", "offset")
