"""A snapshot of the catalogue, mapped: every process of a machine reads the same memory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.serving.index.key_table import KeyTable
from headrace.serving.index.lists import Layout, Lists
from headrace.serving.index.quantised import Quantised
from headrace.serving.snapshot.files import (
    MANIFEST,
    SnapshotError,
    check_contents,
    embedding_version,
    map_file,
    read_manifest,
)

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


class CatalogSnapshot:
    """The items of a snapshot, by row.

    Parameters
    ----------
    folder
        The snapshot's own folder.
    embedding
        The version that the vectors must have; by default that of this program.
    thorough
        Compare the checksums of all files, too.

    Attributes
    ----------
    offsets
        Partition of `items` -> offset of the first record that is not contained.
    column
        The files with one value an item, by name (``files.COLUMNS``); read-only.
    vectors
        Vectors of the rows.
    index
        Vector search. Rows that were withdrawn in it are not found; nothing else knows of that.

    Raises
    ------
    SnapshotError
        When the files are of another format or embedding, incomplete or contradictory.
    """

    def __init__(self, folder: Path, embedding: str | None = None, *, thorough: bool = False) -> None:
        self._lock = _shared_lock(folder)
        try:
            manifest = read_manifest(folder, embedding_version() if embedding is None else embedding)
            if thorough:
                check_contents(folder, manifest)
            files = {name: map_file(folder, name, n) for name, n in manifest.lengths.items()}
            _check_bounds(folder, files, manifest.rows)
            self.folder, self.column = folder, files
            self.offsets: Mapping[int, int] = manifest.offsets
            self._keys = KeyTable(files["slots"], files["key_table"], manifest.key_bits)
            self.vectors = Quantised(files["high"], files["low"], files["scale"])
            self.index = Lists(self.vectors, Layout(files["list_centroids"], files["list_starts"]))
        except BaseException:
            os.close(self._lock)
            raise
        self._rows = manifest.rows
        self._countries: dict[int, Bool] = {}
        self._names = np.argsort(self.column["name_key"])

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

    def id_of(self, row: int) -> str:
        """Return an item's id."""
        start = int(self.column["text_bounds"][row])
        return self._text(start, start + int(self.column["id_bytes"][row]))

    def title_of(self, row: int) -> str:
        """Return an item's title, empty when it has none."""
        start, end = self.column["text_bounds"][row : row + 2].tolist()
        return self._text(start + int(self.column["id_bytes"][row]), end)

    def _text(self, start: int, end: int) -> str:
        return bytes(self.column["text"][start:end]).decode("utf-8", "replace")

    def hashes(self, name: str, rows: I64) -> U64:
        """Return the hashes of ``category``, ``creator`` or ``language`` of some rows, uint64 ``(n,)``."""
        out: U64 = self.column["name_key"][self.column[name][rows]]
        return out

    def name_of(self, key: int) -> str:
        """Return the text of a category, creator or language by its hash, empty when unknown."""
        hashes = self.column["name_key"]
        at = int(np.searchsorted(hashes, np.uint64(key), sorter=self._names))
        number = int(self._names[at]) if at < len(hashes) else 0
        if hashes[number] != key:
            return ""
        start, end = self.column["name_bounds"][number : number + 2].tolist()
        return bytes(self.column["name_text"][start:end]).decode("utf-8", "replace")

    def flags_of(self, row: int) -> list[int]:
        """Return the hashes of an item's flags."""
        number = int(self.column["flags"][row])
        start, end = self.column["set_bounds"][number : number + 2].tolist()
        out: list[int] = self.column["set_values"][start:end].tolist()
        return out

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
            bounds = self.column["set_bounds"]
            holds = np.zeros(len(bounds) - 1, np.bool_)
            at = np.flatnonzero(self.column["set_values"] == np.uint64(country))
            holds[np.searchsorted(bounds, at, "right") - 1] = True
            if len(self._countries) >= 300:  # any text can be a country
                self._countries.clear()
            self._countries[country] = holds
        return self._countries[country]


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
        "name_bounds": len(files["name_text"]),
        "set_bounds": len(files["set_values"]),
    }
    for name, end in ends.items():
        bounds = files[name]
        if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != end or (np.diff(bounds) < 0).any():
            raise SnapshotError(f"{folder / name} does not go from 0 to {end} in ascending order")
    if files["text_bounds"][-1] != len(files["text"]):
        raise SnapshotError(f"{folder / 'text_bounds'} does not end at {len(files['text'])}")
