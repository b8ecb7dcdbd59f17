"""Writing a snapshot: items arrive in blocks, go to files at once, and are put into order last.

Memory does not grow with the number of items except for their keys and places, about 50 bytes each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM
from headrace.serving.index.key_slots import KeySlots
from headrace.serving.index.kmeans import SAMPLE, assign
from headrace.serving.index.lists import count_of_lists, laid_out, plan
from headrace.serving.index.quantised import Quantised
from headrace.serving.snapshot.dictionary import Names, Sets
from headrace.serving.snapshot.files import (
    COLUMNS,
    FORMAT,
    OTHERS,
    Manifest,
    checksum,
    map_file,
    write_manifest,
)
from headrace.serving.snapshot.items import Items, Ragged

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Items that are worked on at once.
_BLOCK = 200_000
_ARRIVALS = "arrivals"


class Writer:
    """Writes one snapshot into an empty folder; use it in a ``with`` statement.

    Parameters
    ----------
    folder
        Where the files go.
    threads
        Threads for the vector index.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._folder, self._threads = folder, threads
        self._arrivals = folder / _ARRIVALS
        self._open = ExitStack()
        self._names, self._sets = Names(), Sets()
        self._rows, self._text_bytes = 0, 0
        self._lengths: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._arrivals.mkdir()
        names = [*COLUMNS, "text", "text_bounds"]
        self._files = {n: self._open.enter_context((self._arrivals / n).open("wb")) for n in names}
        np.zeros(1, np.int64).tofile(self._files["text_bounds"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, items: Items) -> None:
        """Add items, a block of some hundred thousand at most."""
        vectors = Quantised.of(items.vectors)
        columns: dict[str, npt.NDArray[Any]] = {
            **{name: getattr(items, name) for name in ("key", "published", "min_age", "boost")},
            **{n: self._names.numbers(getattr(items, n)) for n in ("category", "creator", "language")},
            **{n: self._sets.numbers(getattr(items, n)) for n in ("flags", "allowed", "blocked")},
            "id_bytes": np.diff(items.ids.bounds),
            **vectors._asdict(),
        }
        for name, values in columns.items():
            if len(values) != len(items):
                raise ValueError(f"{len(values)} values of {name} for {len(items)} items")
            np.ascontiguousarray(values, COLUMNS[name][0]).tofile(self._files[name])
        self._add_text(items.ids, items.titles)
        self._rows += len(items)

    def _add_text(self, ids: Ragged[np.uint8], titles: Ragged[np.uint8]) -> None:
        """Append id and title of each item."""
        n, ends = len(ids), ids.bounds[-1]
        both = Ragged(
            np.concatenate([ids.values, titles.values]),
            np.concatenate([ids.bounds, titles.bounds[1:] + ends]),
        ).take(np.arange(2 * n).reshape(2, n).T.ravel())
        both.values.tofile(self._files["text"])
        (both.bounds[2::2] + self._text_bytes).tofile(self._files["text_bounds"])
        self._text_bytes += len(both.values)

    def finish(self, names: Mapping[int, str], offsets: Mapping[int, int], embedding: str) -> None:
        """Lay the items out and write the rest, the manifest last.

        Parameters
        ----------
        names
            Hash of a category, creator, language or flag -> its text.
        offsets
            Partition of `items` -> offset of the first record that is not contained.
        embedding
            ``embedding_version()`` of the vectors.

        Raises
        ------
        ValueError
            When two items have the same key.
        """
        self._open.close()
        order = self._lay_out()
        for name in COLUMNS:
            self._in_order(name, order)
        self._text_in_order(order)
        bits = self._write_keys()
        hashes, words = self._names.columns(names)
        self._write(name_key=hashes, name_text=words.values, name_bounds=words.bounds)
        sets = self._sets.columns()
        self._write(set_values=sets.values, set_bounds=sets.bounds)
        self._arrivals.rmdir()
        sums = {name: checksum(self._folder / name) for name in self._lengths}
        manifest = Manifest(FORMAT, embedding, self._rows, bits, dict(offsets), self._lengths, sums)
        write_manifest(self._folder, manifest)
        for path in self._folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def _arrived(self, name: str) -> npt.NDArray[Any]:
        length = {"text_bounds": self._rows + 1, "text": self._text_bytes}.get(name, self._rows)
        return map_file(self._arrivals, name, length)

    def _blocks(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self._rows, _BLOCK):
            yield start, min(start + _BLOCK, self._rows)

    def _lay_out(self) -> I64:
        """Write the lists; return the order of the rows."""
        vectors = Quantised(*(self._arrived(name) for name in ("high", "low", "scale")))
        wanted = SAMPLE * count_of_lists(self._rows)
        rng = np.random.default_rng(7)
        some = np.unique(rng.integers(0, max(1, self._rows), min(wanted, self._rows)))
        centroids = plan(vectors.vectors(some), self._rows, self._threads)
        order, layout = laid_out(assign(vectors, centroids, self._threads), centroids)
        self._write(list_starts=layout.starts, list_centroids=layout.centroids)
        return order

    def _in_order(self, name: str, order: I64) -> None:
        arrived = self._arrived(name)
        with (self._folder / name).open("wb") as file:
            for start, end in self._blocks():
                arrived[order[start:end]].tofile(file)
        self._lengths[name] = self._rows
        (self._arrivals / name).unlink()

    def _text_in_order(self, order: I64) -> None:
        arrived = Ragged(self._arrived("text"), self._arrived("text_bounds"))
        written = 0
        with (self._folder / "text").open("wb") as text, (self._folder / "text_bounds").open("wb") as bounds:
            np.zeros(1, np.int64).tofile(bounds)
            for start, end in self._blocks():
                block = arrived.take(order[start:end])
                block.values.tofile(text)
                (block.bounds[1:] + written).tofile(bounds)
                written += len(block.values)
        self._lengths |= {"text": written, "text_bounds": self._rows + 1}
        for name in ("text", "text_bounds"):
            (self._arrivals / name).unlink()

    def _write_keys(self) -> int:
        """Write the sorted keys and the table over their top bits; return how many bits."""
        keys = KeySlots.of(map_file(self._folder, "key", self._rows))
        self._write(slots=keys.slots, key_table=keys.table)
        return keys.bits

    def _write(self, **columns: npt.NDArray[Any]) -> None:
        for name, values in columns.items():
            dtype, shape = OTHERS[name]
            if values.shape[1:] != shape:
                raise ValueError(f"{name} {values.shape}, not {shape} a value; vectors have {DIM}")
            np.ascontiguousarray(values, dtype).tofile(self._folder / name)
            self._lengths[name] = len(values)
