"""The files of the Parquet log: where they are, what their names say, how one is written or deleted.

    <data_dir>/<topic prefix>examples/p<partition>-<first offset>-<last offset>-<time>[-<token>].parquet

``time`` is the timestamp (ms) of the first record in the file. So a file of a topic that was deleted and made
again never has the name of an older one. A file that was merged from others (`compaction`) has a random
token: it never replaces another file. Files of version 0.1.0 have neither time nor token.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from headrace.streams.settings import Settings

FOLDER = "examples"
_NAME = re.compile(r"p(\d+)-(\d+)-(\d+)(?:-(\d+)(?:-([0-9a-f]{8}))?)?\.parquet")
_LOCK = ".lock"
#: Part of the names of this process's unfinished files.
_RUN = secrets.token_hex(4)


def folder_of(settings: Settings) -> Path:
    """Return the folder of an installation's log; installations with other topic prefixes have others."""
    return settings.data_dir / settings.name(FOLDER)


@dataclass(frozen=True, slots=True, order=True)
class LogFile:
    """A file of the log, as its name describes it.

    Attributes
    ----------
    ts
        Timestamp of its first record, ms; 0 when the name has none.
    first, last
        Offsets of its first and last record.
    """

    partition: int
    ts: int
    first: int
    last: int
    path: Path = field(compare=False)
    token: str = ""


def files_in(folder: Path) -> list[LogFile]:
    """Return the files of a log by partition, then by time; none when there is no folder."""
    found = []
    for path in folder.glob("*.parquet") if folder.is_dir() else ():
        if match := _NAME.fullmatch(path.name):
            partition, first, last, ts, token = match.groups()
            found.append(LogFile(int(partition), int(ts or 0), int(first), int(last), path, token or ""))
    return sorted(found)


def newest(folder: Path) -> dict[int, tuple[int, int]]:
    """Return partition -> time and last offset of its newest file: it changes when the log grows."""
    return {file.partition: (file.ts, file.last) for file in files_in(folder)}


def path_of(folder: Path, partition: int, first: int, last: int, ts: int, token: str = "") -> Path:
    """Return the path of a file; see ``LogFile``."""
    end = f"-{token}" if token else ""
    return folder / f"p{partition:05d}-{first:015d}-{last:015d}-{max(0, ts):013d}{end}.parquet"


@contextlib.contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under ``path`` at the end of the block, complete and synced, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.stem}.{_RUN}.tmp")
    try:
        with aside.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)  # of a failed write: it would hold space of a disk that may be full
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive
    finally:
        os.close(folder)


def remove_unfinished(folder: Path, partition: int) -> None:
    """Remove what crashed processes left of unfinished files of a partition.

    If a process still writes such a file, its write fails and is tried again.
    """
    for path in folder.glob(f"p{partition:05d}-*.tmp"):
        if path.suffixes[-2:-1] != [f".{_RUN}"]:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep the files of a log while the block reads them: none is deleted meanwhile.

    On a read-only file system without a lock file nothing is locked.
    """
    handle = _lock_file(folder)
    if handle is None:
        yield
        return
    with handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def deleting(folder: Path) -> Iterator[bool]:
    """Tell whether the block may delete files: False while a reader is at work."""
    with (folder / _LOCK).open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _lock_file(folder: Path) -> BinaryIO | None:
    path = folder / _LOCK
    try:
        return path.open("rb")
    except FileNotFoundError:
        try:
            return path.open("ab")
        except OSError:
            return None
