"""The files of an import: which there are, what they are, and what tells one from another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import xxhash

from headrace.models.learning.places import Place, Stored, StoreError, place
from headrace.streams.errors import ConfigError

#: End of a name, without ``.gz``, -> kind of the file.
KINDS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
#: Bytes that are read at once for a digest.
_BLOCK = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file.

    Attributes
    ----------
    at
        Where it is.
    kind
        parquet, csv or jsonl.
    digest
        Of its bytes: a file that was moved or renamed is still the same.
    """

    at: Place
    kind: str
    digest: str

    def __str__(self) -> str:
        return str(self.at)


def kind_of(name: str) -> str:
    """Return what a file is, by the end of its name; "" when it is none that can be read."""
    plain = name.lower().removesuffix(".gz")
    kind = next((kind for end, kind in KINDS.items() if plain.endswith(end)), "")
    return "" if kind == "parquet" and plain != name.lower() else kind


def find(paths: Sequence[str]) -> list[Place]:
    """Return the files that paths and URLs name, each once: files, and all that are below folders.

    Names that begin with a dot or an underscore are left out in folders: they are not data.

    Raises
    ------
    ConfigError
        There is no such file, or none that can be read.
    """
    out: dict[str, Place] = {}
    for path in paths:
        if "://" in path and urlsplit(path).scheme not in ("file", "s3"):
            raise ConfigError(f"{path}: only files, folders, file:// and s3:// can be read")
        at = place(path)
        found = [at] if _is_file(at) else _below(at)
        if not found:
            raise ConfigError(f"{path}: there is no .parquet, .csv or .jsonl file (or .csv.gz, .jsonl.gz)")
        out.update((str(one), one) for one in found)
    return sorted(out.values(), key=str)


def _is_file(at: Place) -> bool:
    if isinstance(at, Path):
        there = at.is_file()
        if not there and not at.is_dir():
            raise ConfigError(f"{at}: no such file or folder")
    else:
        try:
            at.stat()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise StoreError(f"the store does not answer at {at}: {exc}") from exc
        there = True
    if there and not kind_of(at.name):
        raise ConfigError(f"{at}: its name must end with .parquet, .csv or .jsonl (also .csv.gz, .jsonl.gz)")
    return there


def _below(at: Place) -> list[Place]:
    files: list[Place]
    if isinstance(at, Path):
        files = [path for path in at.rglob("*") if path.is_file()]
    else:
        files = [*{str(one): one for pattern in ("*", "*/*") for one in at.glob(pattern)}.values()]
    below = len(str(at).partition("?")[0]) + 1
    return [one for one in files if kind_of(one.name) and not _hidden(str(one)[below:])]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


@contextmanager
def opened(at: Place, *, unpack: bool = False) -> Iterator[pa.NativeFile]:
    """Open a file to be read from its beginning; ``unpack``: what ends with .gz is decompressed.

    Raises
    ------
    ConfigError
        It cannot be read.
    """
    packed = "gzip" if unpack and at.name.lower().endswith(".gz") else None
    try:
        if isinstance(at, Stored):
            stream = at.system.open_input_stream(at.key, compression=packed)
        else:
            stream = pa.input_stream(str(at), compression=packed)
        with stream:
            yield stream
    except OSError as exc:
        raise ConfigError(f"{at}: cannot be read: {exc}") from exc


def input_file(at: Place) -> InputFile:
    """Return a file with its digest; all of it is read."""
    digest = xxhash.xxh3_128()
    with opened(at) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return InputFile(at, kind_of(at.name), digest.hexdigest())
