"""Turns raw records into columns, with a verdict for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from headrace.oracle.records.documents import RefusedError
from headrace.oracle.records.frames import PLACE
from headrace.oracle.records.places import AGAIN

#: Takes a record's key, value and timestamp. Returns the values of the columns after ``verdict``, or raises
#: ``RefusedError``.
Read = Callable[[bytes | None, bytes | None, int], tuple[Any, ...]]


def columns_of(raw: pl.DataFrame, schema: pl.Schema, read: Read) -> pl.DataFrame:
    """Return the columns that ``read`` returns for every record; for a refused one, the verdict and nulls.

    A record with a verdict in its column ``place`` is not read, unless it was sent on twice.
    """
    nothing = (None,) * (len(schema) - len(PLACE) - 1)
    rows = []
    for record in raw.select(*PLACE, "place", "key", "value").iter_rows():
        *at, place, key, value = record
        try:
            unread = place not in ("", AGAIN)
            rows.append((*at, place, *(nothing if unread else read(key, value, at[-1]))))
        except RefusedError as why:
            rows.append((*at, str(why), *nothing))
    return pl.DataFrame(rows, schema, orient="row")
