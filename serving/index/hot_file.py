"""The hot index on disk: its items and the place in `items` up to which it has them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.serving.index.hot import Contents
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.settled import Columns
from headrace.streams import unfinished

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

FORMAT = 1


class HotFileError(Exception):
    """A file of the hot index cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What is in the file.

    Attributes
    ----------
    items, published
        The items, and when each was published, ms, int64 ``(n,)``.
    offsets
        Partition of `items` -> offset of the first record that is not contained.
    """

    items: Columns
    published: I64
    offsets: dict[int, int]

    @classmethod
    def of(cls, contents: Contents, ages: tuple[U64, I64], offsets: Mapping[int, int]) -> Saved:
        """Join what ``HotIndex.contents()`` and ``HotIndex.ages()`` said at one moment; in any thread."""
        items, (keys, published) = contents.living(), ages
        order = np.argsort(keys)
        at = order[np.searchsorted(keys, items.key, sorter=order)]
        return cls(items, published[at], dict(offsets))


def save(path: Path, saved: Saved, embedding: str) -> None:
    """Write the file; it takes the place of an older one in one step.

    Parameters
    ----------
    embedding
        Version of the vectors and hashes.
    """
    about = json.dumps({"format": FORMAT, "embedding": embedding, "offsets": saved.offsets})
    columns = {"key": saved.items.key, "published": saved.published, **saved.items.vectors._asdict()}
    unfinished.remove_left(path.parent, path.name)
    with unfinished.create(path) as file:
        np.savez(file, about=np.frombuffer(about.encode(), np.uint8), **columns)
        file.flush()
        os.fsync(file.fileno())
        Path(file.name).replace(path)


def load(path: Path, embedding: str) -> Saved:
    """Read the file.

    Raises
    ------
    FileNotFoundError
        When there is none.
    HotFileError
        When it is damaged, or of another format or embedding.
    """
    try:
        with np.load(path) as file:
            about = json.loads(file["about"].tobytes())
            _check(path, about, embedding)
            offsets = {int(partition): int(offset) for partition, offset in about["offsets"].items()}
            items = Columns(file["key"], Quantised(file["high"], file["low"], file["scale"]))
            return Saved(items, file["published"], offsets)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as exc:
        raise HotFileError(f"{path} cannot be read: {exc}") from exc


def _check(path: Path, about: dict[str, Any], embedding: str) -> None:
    if (about["format"], about["embedding"]) != (FORMAT, embedding):
        raise HotFileError(
            f"{path}: format {about['format']}, embedding {about['embedding']}; "
            f"this program reads format {FORMAT}, embedding {embedding}"
        )
