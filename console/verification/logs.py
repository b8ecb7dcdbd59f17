"""Topics that were deleted and made again, or lost their last records.

Rows keep *effective* offsets: the offset of the record plus a base. The base grows when the offsets of a log
start lower than before. The changelog of a stage has it in a meta record for each topic. A partition that
goes on from the log of a parent has lost what that log has lost.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping

import numpy as np
import polars as pl

from headrace.console.verification.raw_topics import covered_from
from headrace.oracle.features.since import Stories
from headrace.oracle.times import MAX_TS
from headrace.streams.settings import Settings
from headrace.streams.topics.growths import Growths
from headrace.streams.topics.names import Topics

#: Key prefix of the meta records. Their values begin with the next offset and the base.
_PLACE = b"place-in:"
_PACKED = struct.Struct("<qq")
NO_GROWTH = Growths()


def bases(
    settings: Settings, meta: Mapping[bytes, bytes], growths: Growths = NO_GROWTH, number: int = 0
) -> dict[str, int]:
    """Return the bases in the meta records of a partition of `user-state`: events, shown, users, items.

    They are those of the numbers that the growths of the partitions gave the records of partition ``number``.
    """
    told = {key[len(_PLACE) :].decode(): value for key, value in meta.items() if key.startswith(_PLACE)}
    names = _names(settings)
    packed = {name: told.get(topic, b"") for name, topic in names.items()}
    return {
        name: _PACKED.unpack_from(value)[1] - growths.shift(names[name], number)
        if len(value) >= _PACKED.size
        else 0
        for name, value in packed.items()
    }


def _names(settings: Settings) -> dict[str, str]:
    t = Topics(settings)
    return {"events": t.events, "shown": t.impressions, "users": t.users, "items": t.items}


def cut_off(settings: Settings, growths: Growths, number: int) -> set[str]:
    """Return of which topics the log of partition ``number`` does not go on from its parents' any more."""
    return {name for name, topic in _names(settings).items() if not growths.whole(topic, number)}


def known_from(
    stories: Stories,
    marks: pl.DataFrame,
    base: Mapping[str, int],
    margin_ms: int,
    orphaned: Collection[str] = (),
) -> int:
    """Return the time (ms) from which the topics have everything that rows count; 0 when nothing is missing.

    Parameters
    ----------
    stories
        Those of one partition, with effective offsets.
    marks
        What its rows say of the records applied.
    base
        Result of ``bases``.
    margin_ms
        The time of an act may be this long after the timestamp of its record.
    orphaned
        Result of ``cut_off``.
    """
    known = 0
    for name, column, records in (
        ("events", "offset", stories.events),
        ("shown", "shown_offset", stories.shown),
    ):
        if base[name] or name in orphaned:
            last = records.group_by("user").agg(pl.col("offset").max())
            both = last.join(marks.select("user", mark=column), on="user")
            if not np.array_equal(both["offset"].to_numpy(), both["mark"].to_numpy()):
                return MAX_TS  # it lost its last records; when, nobody knows
            known = max(known, covered_from(records, set(records["partition"].unique()) or {0}, margin_ms))
    return known
