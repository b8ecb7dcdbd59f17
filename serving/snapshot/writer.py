"""Writing a snapshot: items arrive in blocks, go to files at once, and are put into order last.

Memory does not grow with the number of items except for their keys and places, about 80 bytes each.
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

from headrace.models.embeddings import DIM, artefact
from headrace.models.embeddings.features import Features
from headrace.serving.index.key_slots import KeySlots
from headrace.serving.index.kmeans import SAMPLE, assign
from headrace.serving.index.layout import Layout
from headrace.serving.index.lists import count_of_lists, laid_out, plan
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.signs import TOGETHER, signs_of
from headrace.serving.snapshot.arrivals import Arrivals
from headrace.serving.snapshot.dictionary import FeatureNumbers, Names, Sets
from headrace.serving.snapshot.files import (
    COLUMNS,
    FORMAT,
    LONGEST_MS,
    OTHERS,
    Manifest,
    checksum,
    ids_version,
    map_file,
    write_manifest,
)
from headrace.serving.snapshot.items import Items, Ragged, pieces
from headrace.streams.transport.places import Place

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

#: Items that are worked on at once.
_BLOCK = 200_000
_ARRIVED = "arrivals"
#: Files with any number of values an item, and the column that says how many.
_COUNTED = {"feature": "feature_count", "own": "own_count"}


class Writer:
    """Writes one snapshot into an empty folder; use it in a ``with`` statement.

    Parameters
    ----------
    folder
        Where the files go.
    threads
        Threads for the vector index.

    Attributes
    ----------
    arrivals
        Which items that were added count.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._folder, self._threads = folder, threads
        self._arrived_in = folder / _ARRIVED
        self.arrivals = Arrivals()
        self._open = ExitStack()
        self._names, self._sets, self._features = Names(), Sets(), FeatureNumbers()
        self._added, self._rows = 0, 0
        self._arrived_values = dict.fromkeys(("text", *_COUNTED), 0)
        self._lengths: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of items in the snapshot, after ``finish``."""
        return self._rows

    def __enter__(self) -> Self:
        self._arrived_in.mkdir()
        names = [*COLUMNS, "text", "text_bounds", *_COUNTED]
        self._files = {n: self._open.enter_context((self._arrived_in / n).open("wb")) for n in names}
        np.zeros(1, np.int64).tofile(self._files["text_bounds"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, items: Items, checks: U64 | None = None) -> None:
        """Add items, a block of some hundred thousand at most; one replaces an item with the same key.

        ``checks`` are those of ``Arrivals.add``.
        """
        given = items.vectors
        vectors = given if isinstance(given, Quantised) else Quantised.of(given)
        columns: dict[str, npt.NDArray[Any]] = {
            **{name: getattr(items, name) for name in ("key", "published", "min_age", "boost", "title")},
            "duration": np.minimum(items.duration, LONGEST_MS),
            **{n: self._names.numbers(getattr(items, n)) for n in ("category", "creator", "language")},
            **{n: self._sets.numbers(getattr(items, n)) for n in ("flags", "allowed", "blocked")},
            "id_bytes": np.diff(items.ids.bounds),
            "alike": items.alike,
            "feature_count": np.diff(items.content.bounds),
            "own_count": np.bincount(items.content.own_at, minlength=len(items)),
            **vectors._asdict(),
        }
        for name, values in columns.items():
            if len(values) != len(items):
                raise ValueError(f"{len(values)} values of {name} for {len(items)} items")
            np.ascontiguousarray(values, COLUMNS[name][0]).tofile(self._files[name])
        self._add_text(items.ids, items.titles)
        self._add_content(items.content)
        self.arrivals.add(items.key, checks)
        self._added += len(items)

    def withdraw(self, keys: U64) -> None:
        """Take items out, uint64 ``(n,)``; those that were not added are noted (``Arrivals.known``)."""
        self.arrivals.withdraw(keys)

    def _add_text(self, ids: Ragged[np.uint8], titles: Ragged[np.uint8]) -> None:
        """Append id and title of each item."""
        n, ends = len(ids), ids.bounds[-1]
        both = Ragged(
            np.concatenate([ids.values, titles.values]),
            np.concatenate([ids.bounds, titles.bounds[1:] + ends]),
        ).take(np.arange(2 * n).reshape(2, n).T.ravel())
        both.values.tofile(self._files["text"])
        (both.bounds[2::2] + self._arrived_values["text"]).tofile(self._files["text_bounds"])
        self._arrived_values["text"] += len(both.values)

    def _add_content(self, content: Features) -> None:
        """Append the features of each item."""
        values = {"feature": self._features.numbers(content.keys, content.kinds), "own": content.own}
        for name, given in values.items():
            given.astype(OTHERS[name][0]).tofile(self._files[name])
            self._arrived_values[name] += len(given)

    def finish(
        self,
        names: Mapping[int, str],
        places: Mapping[int, Place],
        vectors: str,
        written_ms: int,
        towers: bytes = b"",
    ) -> None:
        """Lay the items out and write the rest, the manifest last.

        Parameters
        ----------
        names
            Hash of a category, creator, language or flag -> its text.
        places
            Partition of `items` -> place of the first record that is not contained.
        vectors
            Version of the content vectors.
        written_ms
            When the last records were read, ms.
        towers
            The artefact of the towers that made the vectors; empty: version 0.
        """
        self._open.close()
        layout, order = self._lay_out()
        for name in _COUNTED:
            self._counted_in_order(name, order)
        for name in COLUMNS:
            self._in_order(name, order)
        self._write_signs(layout)
        self._text_in_order(order)
        bits = self._write_keys()
        hashes, words = self._names.columns(names)
        self._write(name_key=hashes, name_text=words.values, name_bounds=words.bounds)
        sets = self._sets.columns()
        self._write(set_values=sets.values, set_bounds=sets.bounds)
        features, kinds = self._features.columns()
        self._write(feature_key=features, feature_kind=kinds, towers=np.frombuffer(towers, np.uint8))
        self._write_newest(len(hashes))
        self._arrived_in.rmdir()
        sums = {name: checksum(self._folder / name) for name in self._lengths}
        told = {number: place.text() for number, place in places.items()}
        made_by = artefact.version_of(towers) if towers else ""
        head = (FORMAT, ids_version(), vectors, made_by, self._rows, bits, told, written_ms)
        write_manifest(self._folder, Manifest(*head, self._lengths, sums))
        for path in self._folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def _arrived(self, name: str) -> npt.NDArray[Any]:
        lengths = {"text_bounds": self._added + 1, **self._arrived_values}
        return map_file(self._arrived_in, name, lengths.get(name, self._added))

    def _blocks(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self._rows, _BLOCK):
            yield start, min(start + _BLOCK, self._rows)

    def _lay_out(self) -> tuple[Layout, I64]:
        """Write the lists; return them, and which items that were added become the rows, in this order."""
        vectors = Quantised(*(self._arrived(name) for name in ("high", "low", "scale")))
        counting = self.arrivals.counting()
        self._rows = n = len(counting)
        rng = np.random.default_rng(7)
        some = np.unique(rng.integers(0, max(1, n), min(SAMPLE * count_of_lists(n), n)))
        centroids = plan(vectors.vectors(counting[some]), n, self._threads)
        lists = assign(vectors, centroids, self._threads)[counting]
        order, layout = laid_out(lists, centroids, self._arrived("published")[counting])
        self._write(list_starts=layout.starts, list_centroids=layout.centroids)
        return layout, counting[order]

    def _write_signs(self, layout: Layout) -> None:
        """Write the signs of the rows, for the search."""
        vectors = Quantised(*(map_file(self._folder, name, self._rows) for name in ("high", "low", "scale")))
        blocks = 0
        with (self._folder / "signs").open("wb") as signs, (self._folder / "sign_sizes").open("wb") as sizes:
            for part in signs_of(vectors, layout):
                part.blocks.tofile(signs)
                part.sizes.astype(OTHERS["sign_sizes"][0]).tofile(sizes)
                blocks += len(part.blocks)
        self._lengths |= {"signs": blocks, "sign_sizes": blocks * TOGETHER}

    def _in_order(self, name: str, order: I64) -> None:
        arrived = self._arrived(name)
        with (self._folder / name).open("wb") as file:
            for start, end in self._blocks():
                arrived[order[start:end]].tofile(file)
        self._lengths[name] = self._rows
        (self._arrived_in / name).unlink()

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
            (self._arrived_in / name).unlink()

    def _counted_in_order(self, name: str, order: I64) -> None:
        arrived, sizes = self._arrived(name), self._arrived(_COUNTED[name]).astype(np.int64)
        starts, written = np.cumsum(sizes) - sizes, 0
        with (self._folder / name).open("wb") as file:
            for start, end in self._blocks():
                rows = order[start:end]
                block = pieces(arrived, starts[rows], sizes[rows])
                block.values.tofile(file)
                written += len(block.values)
        self._lengths[name] = written
        (self._arrived_in / name).unlink()

    def _write_keys(self) -> int:
        """Write the sorted keys and the table over their top bits; return how many bits."""
        keys = KeySlots.of(map_file(self._folder, "key", self._rows))
        self._write(slots=keys.slots, key_table=keys.table)
        return keys.bits

    def _write_newest(self, names: int) -> None:
        """Write the rows in the order of their age: all, and those of each category and creator."""
        key, published = (map_file(self._folder, name, self._rows) for name in ("key", "published"))
        order = np.lexsort((key, -published)).astype(np.int32)
        self._write(newest=order)
        for name in ("category", "creator"):
            group = map_file(self._folder, name, self._rows)[order]
            starts = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=names))])
            grouped = {f"newest_{name}": order[np.argsort(group, kind="stable")]}
            self._write(**grouped, **{f"{name}_starts": starts})

    def _write(self, **columns: npt.NDArray[Any]) -> None:
        for name, values in columns.items():
            dtype, shape = OTHERS[name]
            if values.shape[1:] != shape:
                raise ValueError(f"{name} {values.shape}, not {shape} a value; vectors have {DIM}")
            np.ascontiguousarray(values, dtype).tofile(self._folder / name)
            self._lengths[name] = len(values)
