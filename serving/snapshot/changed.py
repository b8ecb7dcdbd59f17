"""Puts the changes since a snapshot, and the rest of the snapshot, into the next one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.many import ContentVectors, ItemVectors, content_of
from headrace.serving.index.quantised import coarse
from headrace.serving.item_columns import columns_of
from headrace.serving.snapshot.items import Items, Ragged, id_sets, texts
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.serving.snapshot.writer import Writer
from headrace.serving.titles import numbers_of
from headrace.streams.messages.countries import country_id
from headrace.streams.messages.ids import hash64, hash_many, words
from headrace.streams.messages.schemas import Item
from headrace.streams.tables.key_index import KeyIndex

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

log = logging.getLogger(__name__)

#: Rows of the last snapshot that are copied at once.
_BLOCK = 25_000


class Changed:
    """The next snapshot while it is written.

    Parameters
    ----------
    writer
        Writes it.
    old
        The last snapshot, None to begin with nothing.
    vectors
        What gives items their vectors. If those of ``old`` are of another version, they are made again.

    Attributes
    ----------
    names
        Hash of a category, creator, language or flag -> its text.
    """

    def __init__(self, writer: Writer, old: CatalogSnapshot | None, vectors: ItemVectors) -> None:
        self._writer, self._old, self._vectors = writer, old, vectors
        self._first = ContentVectors()
        self.names: dict[int, str] = {} if old is None else old.names()
        self._named = KeyIndex()  # hashes whose texts are in the names

    def apply(self, gone: Sequence[str], items: Sequence[Item]) -> None:
        """Apply tombstones and items, all of different ids. One with the hash of another item is left out."""
        ids = [*gone, *(item.item_id for item in items)]
        keys, checks = hash_many(ids), hash_many([f"id:{item_id}" for item_id in ids])
        clash = self._clash(ids, keys, checks)
        if clash.any():
            for at in np.flatnonzero(clash).tolist():
                told = {"action": "id_collision"}
                log.warning("item skipped: another one has the hash of %r", ids[at], extra=told)
            items = [item for item, out in zip(items, clash[len(gone) :].tolist(), strict=True) if not out]
            put = np.flatnonzero(~clash[len(gone) :]) + len(gone)
        else:
            put = np.arange(len(gone), len(ids))
        self._writer.withdraw(keys[: len(gone)][~clash[: len(gone)]])
        if items:
            self._writer.add(self._columns(keys[put], items), checks[put])

    def _clash(self, ids: Sequence[str], keys: U64, checks: U64) -> Bool:
        """Return which ids have the hash of another item, here or before them, bool ``(n,)``."""
        clash = self._writer.arrivals.clash(keys, checks)
        _, first = np.unique(keys, return_index=True)
        again = np.ones(len(keys), np.bool_)
        again[first] = False
        clash |= again
        if self._old is not None:
            rows = self._old.find(keys)
            for at in np.flatnonzero((rows >= 0) & ~self._writer.arrivals.known(keys)).tolist():
                clash[at] |= self._old.id_of(int(rows[at])) != ids[at]
        return clash

    def _columns(self, keys: U64, items: Sequence[Item]) -> Items:
        items = list(items)
        columns, titles = columns_of(items, *words()), [item.title for item in items]
        for hashes, name in (
            (columns.category, "category"),
            (columns.creator, "creator_id"),
            (columns.language, "language"),
        ):
            _, new = self._named.take(hashes)
            self.names.update(
                zip(hashes[new].tolist(), [getattr(items[at], name) for at in new.tolist()], strict=True)
            )
        ruled, flagged = (
            [items[at] for at in places.tolist()] for places in (columns.ruled, columns.flagged)
        )
        for item in flagged:
            self.names.update((hash64(flag), flag) for flag in item.flags)
        content = content_of(items)
        alike = self._first.item_vectors(keys, content)
        learnt = self._vectors.version != self._first.version
        n, allowed, blocked = (
            len(items),
            [item.countries for item in ruled],
            [item.blocked_countries for item in ruled],
        )
        return Items(
            key=keys,
            category=columns.category,
            creator=columns.creator,
            language=columns.language,
            published=columns.published,
            min_age=columns.min_age,
            boost=columns.boost,
            duration=columns.duration,
            title=numbers_of(titles),
            flags=_sets(n, columns.flagged, [map(hash64, item.flags) for item in flagged]),
            allowed=_sets(n, columns.ruled, [map(country_id, codes) for codes in allowed]),
            blocked=_sets(n, columns.ruled, [map(country_id, codes) for codes in blocked]),
            ids=texts([item.item_id for item in items]),
            titles=texts(titles),
            vectors=self._vectors.item_vectors(keys, content) if learnt else alike,
            alike=coarse(alike),
            content=content,
        )

    def keep_rest(self) -> None:
        """Add the items of the last snapshot that did not change."""
        if self._old is None:
            return
        for at in range(0, len(self._old), _BLOCK):
            rows = np.arange(at, min(at + _BLOCK, len(self._old)))
            rows = rows[~self._writer.arrivals.known(self._old.column["key"][rows])]
            if len(rows):
                self._writer.add(self._again(self._old.items(rows), self._old.version))

    def _again(self, items: Items, version: str) -> Items:
        """Return items with vectors of the version of the next snapshot."""
        if version == self._vectors.version:
            return items
        return replace(items, vectors=self._vectors.item_vectors(items.key, items.content))


def _sets(n: int, places: I64, of: Sequence[Iterable[int]]) -> Ragged[np.uint64]:
    """Return the sets of ``n`` items: those of the items at ``places``, and empty ones."""
    sets, sizes = id_sets(of), np.zeros(n + 1, np.int64)
    sizes[places + 1] = np.diff(sets.bounds)
    return Ragged(sets.values, np.cumsum(sizes))
