"""Where the log and the registry are: in a folder, or in an S3-compatible store.

    HEADRACE_DATA_URL=                                             folders in HEADRACE_DATA_DIR
    HEADRACE_DATA_URL=file:///mnt/shared                           folders of a shared file system
    HEADRACE_DATA_URL=s3://bucket/prefix?endpoint_override=...     objects, by pyarrow's file system

A ``Place`` is a ``pathlib.Path``, or a ``Stored``, which has the few methods of a path that are used. The
access keys of a store are in the environment, never in the URL: so a URL may be logged, and be an argument.
"""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import IO, Protocol, runtime_checkable
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings


class StoreError(UnavailableError, OSError):
    """A store does not answer, or refuses; the message names it. For who writes, it is a disk that fails."""


class Stat(Protocol):
    """Size and time of the last writing of a file or an object."""

    @property
    def st_size(self) -> int:
        """Bytes."""
        ...

    @property
    def st_mtime_ns(self) -> int:
        """Nanoseconds since the epoch, by the clock of the disk or the store."""
        ...


@runtime_checkable
class Place(Protocol):
    """What of ``pathlib.Path`` is used, with the same meaning."""

    @property
    def name(self) -> str:
        """The last part."""
        ...

    @property
    def parent(self) -> Place:
        """The place without its last part."""
        ...

    def __truediv__(self, key: str, /) -> Place: ...

    def is_dir(self) -> bool:
        """Tell whether files may be in it."""
        ...

    def glob(self, pattern: str) -> Iterator[Place]:
        """Yield the files that match; none when there is no such folder."""
        ...

    def read_bytes(self) -> bytes:
        """Return all of a file."""
        ...

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete a file."""
        ...

    def stat(self) -> Stat:
        """Return size and time of a file."""
        ...


@dataclass(frozen=True, slots=True)
class _Info:
    st_size: int
    st_mtime_ns: int


class Stored:
    """An object in a store, or what comes before the names of several. Like a path, it does not change.

    Parameters
    ----------
    key
        Bucket and name, ``bucket/prefix/name``.
    options
        Query of the URL; it tells how the store is reached.
    info
        Size and time, if they are known.
    """

    __slots__ = ("_info", "key", "options")

    def __init__(self, key: str, options: str = "", info: Stat | None = None) -> None:
        self.key, self.options, self._info = key, options, info

    def __str__(self) -> str:
        return f"s3://{self.key}{'?' if self.options else ''}{self.options}"

    def __repr__(self) -> str:
        return f"Stored({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stored) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, key: str, /) -> Stored:
        return Stored(f"{self.key.rstrip('/')}/{key}", self.options)

    @property
    def system(self) -> fs.FileSystem:
        """pyarrow's file system of the store."""
        return _system(self.options)

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> Stored:
        """The name without its last part."""
        return Stored(self.key.rpartition("/")[0], self.options)

    def is_dir(self) -> bool:
        """Return True: a store has no folders, so objects may begin with any name."""
        return True

    def glob(self, pattern: str) -> Iterator[Stored]:
        """Yield the objects that match, from one listing: with a slash in the pattern, of all names below.

        Raises
        ------
        StoreError
            The store does not answer.
        """
        selector = fs.FileSelector(self.key, allow_not_found=True, recursive="/" in pattern)
        try:
            found = self.system.get_file_info(selector)
        except OSError as exc:
            raise StoreError(f"the store does not answer at {self}: {exc}") from exc
        for info in found:
            if info.type == fs.FileType.File and fnmatchcase(info.path.removeprefix(f"{self.key}/"), pattern):
                yield Stored(info.path, self.options, _Info(info.size, info.mtime_ns))

    def stat(self) -> Stat:
        """Return size and time, those of the listing that it is from; raise ``FileNotFoundError``."""
        if self._info is not None:
            return self._info
        info = self.system.get_file_info(self.key)
        if info.type != fs.FileType.File:
            raise FileNotFoundError(f"there is no {self}")
        return _Info(info.size, info.mtime_ns)

    def read_bytes(self) -> bytes:
        """Return the object."""
        with self.system.open_input_stream(self.key) as handle:
            out: bytes = handle.read()
        return out

    def put(self, handle: IO[bytes]) -> None:
        """Write a local file as the object: readers find all of it, or what was there before.

        A process that dies meanwhile leaves an upload that never becomes an object.
        """
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            out = self.system.open_output_stream(self.key)
            out.write(mapped)  # one call: nothing of ours can fail between two parts
            out.close()

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        try:
            self.system.delete_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise


@lru_cache
def _system(options: str) -> fs.FileSystem:
    given = dict(parse_qsl(options))
    scheme, _, rest = given.get("endpoint_override", "").rpartition("://")
    return fs.S3FileSystem(
        endpoint_override=rest or None,
        scheme=given.get("scheme") or scheme or "https",
        region=given.get("region") or None,
        connect_timeout=5,
    )


def place(text: str) -> Place:
    """Return the place that a path or a URL names. ``Settings`` has checked it."""
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Stored(f"{parts.netloc}{unquote(parts.path)}".rstrip("/"), parts.query)


def root(settings: Settings) -> Place:
    """Return where the log and the registry of an installation are."""
    return place(settings.data_url) if settings.data_url else settings.data_dir


def source(at: Place) -> Path | pa.NativeFile:
    """Return what pyarrow's Parquet functions read a file from."""
    return at.system.open_input_file(at.key) if isinstance(at, Stored) else Path(str(at))


def dataset(files: list[Place], schema: pa.Schema) -> ds.Dataset:
    """Return Parquet files of one place as a dataset."""
    stored = [at for at in files if isinstance(at, Stored)]
    if stored:
        names, system = [at.key for at in stored], stored[0].system
        return ds.dataset(names, format="parquet", schema=schema, filesystem=system)
    return ds.dataset([str(at) for at in files], format="parquet", schema=schema)


def remove_all(folder: Place) -> None:
    """Delete a folder with all that is in it, as far as that is possible."""
    if isinstance(folder, Stored):
        for found in folder.glob("*"):
            found.unlink(missing_ok=True)
    else:
        shutil.rmtree(str(folder), ignore_errors=True)
