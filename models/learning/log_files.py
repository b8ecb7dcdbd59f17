"""The files of the Parquet log: where they are, what their names say, how one is written or deleted.

    <data_dir>/<topic prefix>examples/p<partition>-<first offset>-<last offset>-<time>[-<token>].parquet

``time`` is the timestamp (ms) of the first record in the file. So a file of a topic that was deleted and made
again never has the name of an older one. A file that was merged from others (`compaction`) has a random
token: it never replaces another file. Files of version 0.1.0 have neither time nor token.

In a store (`places`) an object appears when it is complete, so there are no unfinished files; and there are
no locks: `withdrawn` keeps files for those who read them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

from headrace.models.learning import withdrawn
from headrace.models.learning.places import Place, Stored, root
from headrace.streams.settings import Settings

FOLDER = "examples"
_NAME = re.compile(r"p(\d+)-(\d+)-(\d+)(?:-(\d+)(?:-([0-9a-f]{8}))?)?\.parquet")
_LOCK = ".lock"
#: Part of the names of this process's unfinished files.
_RUN = secrets.token_hex(4)


def folder_of(settings: Settings) -> Place:
    """Return the folder of an installation's log; installations with other topic prefixes have others."""
    return root(settings) / settings.name(FOLDER)


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
    path: Place = field(compare=False)
    token: str = ""


def files_in(folder: Place) -> list[LogFile]:
    """Return the files of a log by partition, then by time; none when there is no folder.

    Raises
    ------
    OSError
        The store does not answer.
    """
    listing = list(folder.glob("*") if folder.is_dir() else ())
    hidden = withdrawn.hidden(listing)
    found = []
    for path in listing:
        if (match := _NAME.fullmatch(path.name)) and path.name not in hidden:
            partition, first, last, ts, token = match.groups()
            found.append(LogFile(int(partition), int(ts or 0), int(first), int(last), path, token or ""))
    return sorted(found)


def newest(folder: Place) -> dict[int, tuple[int, int]]:
    """Return partition -> time and last offset of its newest file: it changes when the log grows."""
    return {file.partition: (file.ts, file.last) for file in files_in(folder)}


def path_of(folder: Place, partition: int, first: int, last: int, ts: int, token: str = "") -> Place:
    """Return the path of a file; see ``LogFile``."""
    end = f"-{token}" if token else ""
    return folder / f"p{partition:05d}-{first:015d}-{last:015d}-{max(0, ts):013d}{end}.parquet"


@contextlib.contextmanager
def durable_file(path: Place) -> Iterator[IO[bytes]]:
    """Open a file that appears under ``path`` at the end of the block, complete and synced, or not at all."""
    if isinstance(path, Stored):
        with tempfile.TemporaryFile() as handle:
            yield handle
            handle.flush()
            path.put(handle)
    else:
        with _local_file(Path(str(path))) as handle:
            yield handle


@contextlib.contextmanager
def _local_file(path: Path) -> Iterator[IO[bytes]]:
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


def remove(files: Sequence[LogFile], by: Place | None = None) -> None:
    """Delete files of one partition, whose rows are in ``by``; in no file if it is None.

    In a folder they are deleted at once: the caller has it from ``deleting``.
    """
    if files and isinstance(files[0].path, Stored):
        names = [file.path.name for file in files]
        withdrawn.withdraw(files[0].path.parent, files[0].partition, names, by.name if by else "")
        return
    for file in files:
        file.path.unlink(missing_ok=True)


def remove_unfinished(folder: Place, partitions: Collection[int], stopping: Callable[[], bool]) -> None:
    """Remove what crashed processes left of unfinished files of some partitions, and what is due in a store.

    If a process still writes such a file, its write fails and is tried again.
    """
    if isinstance(folder, Stored):
        withdrawn.delete_due(folder, partitions, stopping)
        return
    for partition in partitions:
        for path in folder.glob(f"p{partition:05d}-*.tmp"):
            if not path.name.endswith(f".{_RUN}.tmp"):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def reading(folder: Place) -> Iterator[None]:
    """Keep the files of a log while the block reads them: none is deleted meanwhile.

    On a read-only file system without a lock file nothing is locked. In a store, the files that the block
    lists stay for ``withdrawn.GRACE_MS``.
    """
    handle = None if isinstance(folder, Stored) else _lock_file(Path(str(folder)))
    if handle is None:
        yield
        return
    with handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def deleting(folder: Place) -> Iterator[bool]:
    """Tell whether the block may delete files: False while a reader is at work."""
    if isinstance(folder, Stored):
        yield True
        return
    with Path(str(folder / _LOCK)).open("ab") as handle:
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
