"""The hot index on disk: its items and the place in `items` up to which it has them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from headrace.serving.index.quantised import Quantised
from headrace.serving.index.settled import Columns

FORMAT = 1


class HotFileError(Exception):
    """A file of the hot index cannot be used; the message says why."""


def save(path: Path, items: Columns, offsets: Mapping[int, int], embedding: str) -> None:
    """Write items to a file; it takes the place of an older one in one step.

    Parameters
    ----------
    items
        For example ``HotIndex.contents().living()``, which any thread may ask for.
    offsets
        Partition of `items` -> offset of the first record that is not contained.
    embedding
        Version of the vectors and hashes.
    """
    about = json.dumps({"format": FORMAT, "embedding": embedding, "offsets": dict(offsets)})
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(
            file,
            about=np.frombuffer(about.encode(), np.uint8),
            key=items.key,
            published=items.published,
            high=items.vectors.high,
            low=items.vectors.low,
            scale=items.vectors.scale,
        )
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load(path: Path, embedding: str) -> tuple[Columns, dict[int, int]]:
    """Read a file; return its items and the offset of each partition up to which it has them.

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
            fits = (about["format"], about["embedding"]) == (FORMAT, embedding)
            offsets = {int(partition): int(offset) for partition, offset in about["offsets"].items()}
            vectors = Quantised(file["high"], file["low"], file["scale"]) if fits else None
            key, published = file["key"], file["published"]
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as exc:
        raise HotFileError(f"{path} cannot be read: {exc}") from exc
    if vectors is None:
        raise HotFileError(
            f"{path}: format {about['format']}, embedding {about['embedding']}; "
            f"this program reads format {FORMAT}, embedding {embedding}"
        )
    return Columns(key, published, vectors), offsets
