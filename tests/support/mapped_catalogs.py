"""Snapshots of small catalogues, written from records of `items` as the role `index` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from strategies import T0

from headrace.models.embeddings.artefact import towers_of
from headrace.models.embeddings.many import ItemVectors, TowerVectors
from headrace.models.embeddings.towers import Towers
from headrace.serving.catalog import Catalog
from headrace.serving.snapshot.base import Base
from headrace.serving.snapshot.changed import Changed
from headrace.serving.snapshot.folder import SnapshotFolder
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.serving.snapshot.writer import Writer
from headrace.streams.messages.schemas import Item
from headrace.streams.transport.places import Place

#: What a record says: an item, or the id of one that is withdrawn.
Record = Item | str


def write_snapshot(
    path: Path,
    records: Iterable[Record],
    ends: Mapping[int, int],
    *,
    old: CatalogSnapshot | None = None,
    vectors: ItemVectors | None = None,
    towers: bytes = b"",
    written_ms: int = T0,
) -> None:
    """Write a snapshot of the last one and what some records change, one by one.

    ``towers`` is what a learner publishes; it gives items their vectors.
    """
    vectors = vectors or TowerVectors(towers_of(towers) if towers else Towers())
    with SnapshotFolder(path).writing() as folder, Writer(folder) as writer:
        changed = Changed(writer, old, vectors)
        for record in records:
            changed.apply(*(([record], []) if isinstance(record, str) else ([], [record])))
        changed.keep_rest()
        places = {number: Place(end) for number, end in ends.items()}
        writer.finish(changed.names, places, vectors.content, written_ms, towers)


def opened(path: Path) -> CatalogSnapshot:
    """Open the newest snapshot."""
    snapshot = SnapshotFolder(path).open(thorough=True)
    assert snapshot is not None
    return snapshot


def base_of(path: Path, *blocked_flags: str) -> Base:
    """Return the newest snapshot as a catalogue uses it."""
    return Base(opened(path), blocked_flags)


def begin_swap(catalog: Catalog, base: Base) -> None:
    """Begin a swap, and hide in the new snapshot what changed since the last one."""
    for keys in catalog.begin_swap():
        base.hide(keys)
