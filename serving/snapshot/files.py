"""The files of a snapshot and its manifest: which there are, of which type, and whether they are complete.

A snapshot is a folder with one file of raw values for each column, and ``manifest.json``, written last.
Items lie in the order of the lists of the vector index (``serving/index/lists.py``); a row is a place in that
order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from headrace.models.embeddings import DIM
from headrace.serving.index.key_slots import SLOT
from headrace.serving.index.signs import TOGETHER
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.messages.ids import hash64
from headrace.streams.transport.places import Place

FORMAT: Final = 7
MANIFEST: Final = "manifest.json"
#: A longer duration counts as this one: 49 days.
LONGEST_MS: Final = 2**32 - 1
_READ_BYTES = 16 * 1024 * 1024
_MOST_KEY_BITS = 40

#: One value an item, by name: type and the shape of a value.
COLUMNS: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
    "key": (np.dtype("<u8"), ()),
    "category": (np.dtype("<u4"), ()),  # number in the file of names, as the next two
    "creator": (np.dtype("<u4"), ()),
    "language": (np.dtype("<u4"), ()),
    "published": (np.dtype("<i8"), ()),
    "min_age": (np.dtype("u1"), ()),
    "boost": (np.dtype("<f4"), ()),
    "duration": (np.dtype("<u4"), ()),  # ms, at most 49 days
    "title": (np.dtype("<u4"), ()),  # see ``titles.numbers_of``
    "flags": (np.dtype("<u4"), ()),  # number in the file of sets, as the next two
    "allowed": (np.dtype("<u4"), ()),
    "blocked": (np.dtype("<u4"), ()),
    "id_bytes": (np.dtype("<u2"), ()),
    "high": (np.dtype("i1"), (DIM,)),
    "low": (np.dtype("i1"), (DIM,)),
    "scale": (np.dtype("<f4"), ()),
    "alike": (np.dtype("i1"), (DIM,)),
    "feature_count": (np.dtype("<u2"), ()),
    "own_count": (np.dtype("u1"), ()),  # 1 where the publisher gave a vector
}
#: The other files. Texts of an item: its id, then its title.
OTHERS: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
    "text_bounds": (np.dtype("<i8"), ()),
    "text": (np.dtype("u1"), ()),
    "slots": (SLOT, ()),
    "key_table": (np.dtype("<u4"), ()),
    "list_starts": (np.dtype("<i8"), ()),
    "list_centroids": (np.dtype("<f4"), (DIM,)),
    # Of blocks of 32 rows, and of the rows of whole blocks (``serving/index/signs.py``).
    "signs": (np.dtype("u1"), (2, DIM // 8, TOGETHER)),
    "sign_sizes": (np.dtype("<f4"), ()),
    # Rows, newest first: all, and those of each category and creator (of the number in the file of names).
    "newest": (np.dtype("<i4"), ()),
    "newest_category": (np.dtype("<i4"), ()),
    "newest_creator": (np.dtype("<i4"), ()),
    "category_starts": (np.dtype("<i8"), ()),
    "creator_starts": (np.dtype("<i8"), ()),
    "name_key": (np.dtype("<u8"), ()),
    "name_bounds": (np.dtype("<i8"), ()),
    "name_text": (np.dtype("u1"), ()),
    "set_bounds": (np.dtype("<i8"), ()),
    "set_values": (np.dtype("<u8"), ()),
    # Only the next snapshot reads these. Features of all items one after the other, as numbers; by number
    # their keys and kinds; vectors of publishers.
    "feature": (np.dtype("<u4"), ()),
    "feature_key": (np.dtype("<u8"), ()),
    "feature_kind": (np.dtype("u1"), ()),
    "own": (np.dtype("<f2"), (DIM,)),
    # The towers that made the vectors, as they were published; empty: version 0.
    "towers": (np.dtype("u1"), ()),
}
_TYPES = COLUMNS | OTHERS


class SnapshotError(Exception):
    """A snapshot cannot be used; the message says why."""


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """What a snapshot has.

    Attributes
    ----------
    format
        Version of the files.
    ids
        A text that is another one when ids are hashed under another key.
    vectors
        Version of the content vectors (``TowerVectors.content``).
    towers
        Version of the towers, "" for version 0.
    rows
        Number of items.
    key_bits
        Top bits of a key that ``key_table`` goes by.
    places
        Partition of `items` -> the place (``Place.text``) of the first record that the snapshot does not
        contain.
    written_ms
        When the last records were read, ms.
    lengths, checksums
        Number of values and XXH3-64 of each file.
    """

    format: int
    ids: str
    vectors: str
    towers: str
    rows: int
    key_bits: int
    places: dict[int, str]
    written_ms: int
    lengths: dict[str, int]
    checksums: dict[str, str]


def ids_version() -> str:
    """Return a text that is another one when ids are hashed under another key."""
    return f"{hash64('headrace'):016x}"


def places_of(folder: Path, manifest: Manifest) -> dict[int, Place]:
    """Return the places of a manifest by partition.

    Raises
    ------
    SnapshotError
        When one cannot be read.
    """
    found = {number: Place.of_text(text) for number, text in manifest.places.items()}
    places = {number: place for number, place in found.items() if place is not None}
    if len(places) < len(found):
        raise SnapshotError(f"{folder}: the places in the manifest cannot be read")
    return places


def map_file(folder: Path, name: str, length: int) -> npt.NDArray[Any]:
    """Map a file read-only, ``(length, *shape of a value)``."""
    dtype, shape = _TYPES[name]
    if length == 0:  # an empty file cannot be mapped
        return np.zeros((0, *shape), dtype)
    return np.memmap(folder / name, dtype, "r", shape=(length, *shape)).view(np.ndarray)


def size_of(name: str, length: int) -> int:
    """Return how many bytes a file with ``length`` values has."""
    dtype, shape = _TYPES[name]
    return length * dtype.itemsize * int(np.prod(shape, dtype=np.int64))


def checksum(path: Path) -> str:
    """Return XXH3-64 of a file."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest; the last file of a snapshot."""
    (folder / MANIFEST).write_bytes(
        json.dumps(msgspec.to_builtins(manifest, str_keys=True), indent=1).encode()
    )


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest and compare it with the files.

    Raises
    ------
    SnapshotError
        When there is none, when format or ids are not those of this program, or a file is missing or has
        another size.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
        there = cast(dict[str, Any], json.loads(raw))
        if there.get("format") != FORMAT:
            raise SnapshotError(f"{folder}: format {there.get('format')}; this program reads format {FORMAT}")
        manifest = msgspec.convert(there, Manifest, strict=False)
    except (OSError, *UNDECODABLE, ValueError, AttributeError, OverflowError) as exc:
        raise SnapshotError(f"{folder}: the manifest cannot be read: {exc}") from exc
    if manifest.ids != ids_version():
        raise SnapshotError(f"{folder}: its ids are hashed under another HEADRACE_ID_KEY")
    if set(manifest.lengths) != set(_TYPES):
        raise SnapshotError(f"{folder}: the manifest names other files than {', '.join(_TYPES)}")
    for name, length in manifest.lengths.items():
        _check_size(folder / name, size_of(name, length))
    _check_lengths(folder, manifest)
    return manifest


def _check_size(path: Path, wanted: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as exc:
        raise SnapshotError(f"{path} is missing") from exc
    if found != wanted:
        raise SnapshotError(f"{path} has {found} bytes; the manifest says {wanted}")


def _check_lengths(folder: Path, manifest: Manifest) -> None:
    rows, lengths = manifest.rows, manifest.lengths
    if not 0 <= manifest.key_bits <= _MOST_KEY_BITS:
        raise SnapshotError(f"{folder}: {manifest.key_bits} bits of keys")
    newest = ["newest", "newest_category", "newest_creator"]
    wanted = dict.fromkeys([*COLUMNS, "slots", *newest], rows) | {"text_bounds": rows + 1}
    wanted |= {"key_table": (1 << manifest.key_bits) + 1, "list_starts": lengths["list_centroids"] + 1}
    wanted["feature_kind"] = lengths["feature_key"]
    blocks = -(-rows // TOGETHER)
    wanted |= {"signs": blocks, "sign_sizes": blocks * TOGETHER}
    wanted |= dict.fromkeys(["name_bounds", "category_starts", "creator_starts"], lengths["name_key"] + 1)
    for name, length in wanted.items():
        if lengths[name] != length:
            raise SnapshotError(
                f"{folder / name} has {lengths[name]} values; {length} belong to {rows} items"
            )


def check_contents(folder: Path, manifest: Manifest) -> None:
    """Read every file and compare its checksum: about a second for a gigabyte in the page cache.

    Raises
    ------
    SnapshotError
        When one differs.
    """
    for name, wanted in manifest.checksums.items():
        found = checksum(folder / name)
        if found != wanted:
            raise SnapshotError(f"{folder / name} has the checksum {found}; the manifest says {wanted}")
