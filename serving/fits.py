"""Which items fit the filters of a request."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.key_sets import among
from headrace.serving.catalog import Catalog
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import AnyNone, Filters
from headrace.streams.tables.rows import Rows

Bool = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

#: Filters that every item fits.
NO_FILTERS = Filters()
_NAMES = ("category", "creator", "language")


def fits(catalog: Catalog, asked: Filters, keys: U64, rows: Rows) -> Bool:
    """Return which items of the catalogue fit, bool ``(n,)``; no row may be -1.

    Tags are read last, of the items that fit otherwise.
    """
    out = np.ones(len(rows), bool)
    if asked == NO_FILTERS or not len(rows):
        return out
    if asked.published_after is not None:
        out &= catalog.column("published", rows) > asked.published_after
    for name in _NAMES:
        named: AnyNone = getattr(asked, name)
        column = catalog.column(name, rows) if named.any or named.none else rows
        if named.any:
            out &= among(column, hash_many(named.any))
        if named.none:
            out &= ~among(column, hash_many(named.none))
    if asked.tags.any or asked.tags.none:
        places = np.flatnonzero(out)
        out[places] = _tags_fit(catalog, asked.tags, keys[places], rows[places])
    return out


def _tags_fit(catalog: Catalog, tags: AnyNone, keys: U64, rows: Rows) -> Bool:
    """Return which items have one of some tags, and none of others, bool ``(n,)``.

    The catalogue has tags as content features (``models/embeddings/content.py``).
    """
    out = np.ones(len(rows), bool)
    first = 0 if catalog.base is None else len(catalog.base)
    for places in (np.flatnonzero(rows >= first), np.flatnonzero(rows < first)):
        if not len(places):
            continue
        if rows[places[0]] < first and catalog.base is not None:
            bounds, found = catalog.base.snapshot.feature_keys(rows[places])
        else:
            content = catalog.vectors.content.features_of(keys[places])
            bounds, found = content.bounds, content.keys
        if tags.any:
            out[places] &= _have(tags.any, bounds, found)
        if tags.none:
            out[places] &= ~_have(tags.none, bounds, found)
    return out


def _have(tags: list[str], bounds: I64, features: U64) -> Bool:
    """Return which items have one of some tags, bool ``(n,)``; features are ``bounds[i]:bounds[i + 1]``."""
    before = np.zeros(len(features) + 1, np.int64)
    np.cumsum(among(features, hash_many([f"tag:{tag}" for tag in tags])), out=before[1:])
    out: Bool = before[bounds[1:]] > before[bounds[:-1]]
    return out
