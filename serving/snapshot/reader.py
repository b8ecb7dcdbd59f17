"""A snapshot of the catalogue, mapped: every process of a machine reads the same memory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import artefact
from headrace.models.embeddings.features import Features, ragged
from headrace.models.embeddings.many import version_of
from headrace.models.embeddings.towers import Towers
from headrace.serving.catalog_reads import number_of
from headrace.serving.index.key_table import KeyTable
from headrace.serving.index.layout import Layout
from headrace.serving.index.lists import Lists
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.signs import Signs
from headrace.serving.snapshot.files import (
    MANIFEST,
    SnapshotError,
    check_contents,
    map_file,
    places_of,
    read_manifest,
)
from headrace.serving.snapshot.items import Items, Ragged, pieces
from headrace.streams.errors import ArtefactError
from headrace.streams.transport.places import Place

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

#: It is known for every so many rows where their features begin.
_BLOCK = 64


class CatalogSnapshot:
    """The items of a snapshot, by row.

    Parameters
    ----------
    folder
        The snapshot's own folder.
    thorough
        Compare the checksums of all files, too.

    Attributes
    ----------
    places
        Partition of `items` -> place of the first record that is not contained.
    content, towers_version
        Versions of the content vectors and of the towers; the latter is empty for version 0.
    version
        Version of the vectors, by both.
    written_ms
        When the last records were read, ms.
    column
        The files with one value an item, by name (``files.COLUMNS``); read-only.
    vectors
        Vectors of the rows.
    index
        Vector search. Rows that were withdrawn in it are not found; nothing else knows of that.

    Raises
    ------
    SnapshotError
        When the files are of another format, incomplete or contradictory, or ids are hashed under another
        key.
    """

    def __init__(self, folder: Path, *, thorough: bool = False) -> None:
        self._lock = _shared_lock(folder)
        try:
            manifest = read_manifest(folder)
            if thorough:
                check_contents(folder, manifest)
            files = {name: map_file(folder, name, n) for name, n in manifest.lengths.items()}
            _check_bounds(folder, files, manifest.rows)
            self.folder, self.column = folder, files
            self.places: Mapping[int, Place] = places_of(folder, manifest)
            self.content, self.towers_version = manifest.vectors, manifest.towers
            self.version, self.written_ms = version_of(self.content, self.towers_version), manifest.written_ms
            self._keys = KeyTable(files["slots"], files["key_table"], manifest.key_bits)
            self.vectors = Quantised(files["high"], files["low"], files["scale"])
            layout = Layout(files["list_centroids"], files["list_starts"])
            self.index = Lists(self.vectors, layout, signs=Signs(files["signs"], files["sign_sizes"]))
        except ValueError as exc:
            os.close(self._lock)
            raise SnapshotError(f"{folder}: {exc}") from exc
        except BaseException:
            os.close(self._lock)
            raise
        self._rows = manifest.rows
        self._countries: dict[int, Bool] = {}
        self._names = np.argsort(self.column["name_key"])
        self._block_starts = _starts(self.column["feature_count"])
        # Where the features of each row begin, and the rows with a publisher's vector: for the next snapshot.
        self._given: tuple[I64, I64] | None = None
        if thorough:
            self._check_counts()
            self._check_order()

    def __len__(self) -> int:
        return self._rows

    def close(self) -> None:
        """Say that this process no longer needs the files. What was read from them stays readable."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def find(self, keys: U64) -> I64:
        """Return the row of each key, int64 ``(n,)``, -1 where there is none."""
        return self._keys.find(keys)

    def find_others(self, keys: U64, rows: I64, shift: int) -> None:
        """See ``KeyTable.find_others``; rows that were withdrawn in the index are not found."""
        self._keys.find_others(keys, rows, shift, self.index.withdrawn_bits)

    def towers(self) -> Towers:
        """Return the towers that made the vectors; takes a few ms for each MB, in any thread.

        Raises
        ------
        SnapshotError
            They are damaged, or those of other code.
        """
        path, body = self.folder / "towers", self.column["towers"].tobytes()
        found = artefact.version_of(body) if body else ""
        if found != self.towers_version:
            raise SnapshotError(f"{path} has version {found}; the manifest says {self.towers_version}")
        try:
            return artefact.towers_of(body) if body else Towers()
        except ArtefactError as exc:
            raise SnapshotError(f"{path}: {exc}") from exc

    def id_of(self, row: int) -> str:
        """Return an item's id."""
        start = int(self.column["text_bounds"][row])
        return self._text(start, start + int(self.column["id_bytes"][row]))

    def ids_of(self, rows: I64) -> list[str]:
        """Return the ids of some rows."""
        starts = self.column["text_bounds"][rows]
        bounds = zip(starts.tolist(), (starts + self.column["id_bytes"][rows]).tolist(), strict=True)
        return [self._text(start, end) for start, end in bounds]

    def title_of(self, row: int) -> str:
        """Return an item's title, empty when it has none."""
        start, end = self.column["text_bounds"][row : row + 2].tolist()
        return self._text(start + int(self.column["id_bytes"][row]), end)

    def _text(self, start: int, end: int) -> str:
        return self.column["text"][start:end].tobytes().decode("utf-8", "replace")

    def hashes(self, name: str, rows: I64) -> U64:
        """Return the hashes of ``category``, ``creator`` or ``language`` of some rows, uint64 ``(n,)``."""
        out: U64 = self.column["name_key"][self.column[name][rows]]
        return out

    def number_of(self, key: int) -> int:
        """Return the number of a category, creator or language by its hash, -1 when unknown."""
        return number_of(self.column["name_key"], self._names, key)

    def name_of(self, key: int) -> str:
        """Return the text of a category, creator or language by its hash, empty when unknown."""
        number = self.number_of(key)
        if number < 0:
            return ""
        start, end = self.column["name_bounds"][number : number + 2].tolist()
        return bytes(self.column["name_text"][start:end]).decode("utf-8", "replace")

    def flags_of(self, row: int) -> list[int]:
        """Return the hashes of an item's flags."""
        number = int(self.column["flags"][row])
        start, end = self.column["set_bounds"][number : number + 2].tolist()
        out: list[int] = self.column["set_values"][start:end].tolist()
        return out

    def names(self) -> dict[int, str]:
        """Return the texts of all categories, creators and languages by their hash."""
        bounds, text = self.column["name_bounds"].tolist(), self.column["name_text"].tobytes()
        return {
            key: text[bounds[i] : bounds[i + 1]].decode("utf-8", "replace")
            for i, key in enumerate(self.column["name_key"].tolist())
            if bounds[i + 1] > bounds[i]
        }

    def sets_with(self, values: U64) -> Bool:
        """Return which sets contain one of some values at least, bool ``(sets,)``."""
        bounds = self.column["set_bounds"]
        holds = np.zeros(len(bounds) - 1, np.bool_)
        at = np.flatnonzero(np.isin(self.column["set_values"], values))
        holds[np.searchsorted(bounds, at, "right") - 1] = True
        return holds

    def items(self, rows: I64) -> Items:
        """Return items in columns, for the next snapshot."""
        column = self.column
        sets = Ragged(column["set_values"], column["set_bounds"])
        starts, ids = column["text_bounds"][rows], column["id_bytes"][rows].astype(np.int64)
        titles = column["text_bounds"][rows + 1] - starts - ids
        return Items(
            key=column["key"][rows],
            category=self.hashes("category", rows),
            creator=self.hashes("creator", rows),
            language=self.hashes("language", rows),
            published=column["published"][rows],
            min_age=column["min_age"][rows],
            boost=column["boost"][rows],
            duration=column["duration"][rows],
            title=column["title"][rows],
            flags=sets.take(column["flags"][rows].astype(np.int64)),
            allowed=sets.take(column["allowed"][rows].astype(np.int64)),
            blocked=sets.take(column["blocked"][rows].astype(np.int64)),
            ids=pieces(column["text"], starts, ids),
            titles=pieces(column["text"], starts + ids, titles),
            vectors=self.vectors.take(rows),
            alike=column["alike"][rows],
            content=self._content_of(rows),
        )

    def feature_keys(self, rows: I64) -> tuple[I64, U64]:
        """Return the bounds and the keys of the content features of some rows, as in ``Features``."""
        counts = self.column["feature_count"]
        before, at = ragged(rows // _BLOCK * _BLOCK, rows % _BLOCK)  # the rows of the block before each
        total = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[at], dtype=np.int64)])
        starts = self._block_starts[rows // _BLOCK] + total[before[1:]] - total[before[:-1]]
        bounds, at = ragged(starts, counts[rows].astype(np.int64))
        return bounds, self.column["feature_key"][self.column["feature"][at]]

    def _content_of(self, rows: I64) -> Features:
        """Return what the towers read of items."""
        column, counts = self.column, self.column["feature_count"][rows].astype(np.int64)
        if self._given is None:
            every = column["feature_count"]
            self._given = np.cumsum(every, dtype=np.int64) - every, np.flatnonzero(column["own_count"])
        starts, with_own = self._given
        bounds, at = ragged(starts[rows], counts)
        features = column["feature"][at]
        keys, kinds = column["feature_key"][features], column["feature_kind"][features]
        own_at = np.flatnonzero(column["own_count"][rows])
        own = column["own"][np.searchsorted(with_own, rows[own_at])].astype(np.float32)
        return Features(bounds, keys, kinds, own_at, own)

    def _check_counts(self) -> None:
        for name in ("feature", "own"):
            there, wanted = len(self.column[name]), int(self.column[f"{name}_count"].sum(dtype=np.int64))
            if there != wanted:
                self.close()
                raise SnapshotError(f"{self.folder / name} has {there} values; {wanted} belong to the items")

    def _check_order(self) -> None:
        earlier = np.flatnonzero(np.diff(self.column["published"]) < 0) + 1
        if not np.isin(earlier, self.column["list_starts"]).all():
            self.close()
            raise SnapshotError(f"{self.folder}: rows of a list are not in the order of their publication")

    def allowed_in(self, rows: I64, country: int) -> Bool:
        """Return which rows the country rules allow in ``country`` (``country_id``), bool ``(n,)``.

        An item with country rules is not allowed in an unknown country, 0.
        """
        allowed, blocked = self.column["allowed"][rows], self.column["blocked"][rows]
        if not country:
            out: Bool = (allowed == 0) & (blocked == 0)
            return out
        holds = self._sets_with(country)
        out = (allowed == 0) | holds[allowed]
        out &= ~holds[blocked]
        return out

    def _sets_with(self, country: int) -> Bool:
        """Return which sets contain a country, bool ``(sets,)``."""
        if country not in self._countries:
            if len(self._countries) >= 300:  # any text can be a country
                self._countries.clear()
            self._countries[country] = self.sets_with(np.array([country], np.uint64))
        return self._countries[country]


def _starts(counts: npt.NDArray[np.uint16]) -> I64:
    """Return where the features of the first row of each block begin, int64 ``(blocks,)``."""
    if not len(counts):
        return np.zeros(0, np.int64)
    sums = np.add.reduceat(counts, np.arange(0, len(counts), _BLOCK), dtype=np.int64)
    out: I64 = np.cumsum(sums) - sums
    return out


def _shared_lock(folder: Path) -> int:
    """Open the manifest and lock it, so that nobody removes the snapshot; return the descriptor."""
    try:
        lock = os.open(folder / MANIFEST, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise SnapshotError(f"{folder}: the manifest cannot be read: {exc}") from exc
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _check_bounds(folder: Path, files: Mapping[str, npt.NDArray[Any]], rows: int) -> None:
    """Raise ``SnapshotError`` when the bounds in small files are not in order, or end elsewhere."""
    ends = {
        "list_starts": rows,
        "category_starts": rows,
        "creator_starts": rows,
        "name_bounds": len(files["name_text"]),
        "set_bounds": len(files["set_values"]),
    }
    for name, end in ends.items():
        bounds = files[name]
        if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != end or (np.diff(bounds) < 0).any():
            raise SnapshotError(f"{folder / name} does not go from 0 to {end} in ascending order")
    if files["text_bounds"][-1] != len(files["text"]):
        raise SnapshotError(f"{folder / 'text_bounds'} does not end at {len(files['text'])}")
