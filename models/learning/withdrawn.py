"""Deleting in a store, where no lock keeps a file for its readers: files are withdrawn first, deleted later.

    note   p<partition>-<token>.gone    {"files": [names], "by": name of the file that has their rows, or ""}

A merged file is put, then the note that names its sources; an object appears as a whole or not at all, so a
crash in between leaves rows twice, never a row less. Who lists the log after that leaves out what a note
names, if the file that has the rows is in the same listing. ``GRACE_MS`` after the note, by the clock of the
store, the files are deleted, and then the note: nobody who listed them before is still reading.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from headrace.models.learning.places import Place, Stored
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.settings import HOUR_MS

log = logging.getLogger(__name__)

#: A training may read for so long.
GRACE_MS = 6 * HOUR_MS
_END = ".gone"


class _Text(msgspec.Struct):
    files: list[str]
    by: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A note of a listing.

    Attributes
    ----------
    files
        Names of the files that it withdraws.
    counts
        Whether it counts: the file that has the rows is there, or nobody needs them.
    """

    at: Place
    files: tuple[str, ...]
    counts: bool

    @property
    def ts(self) -> int:
        """When it was written, ms."""
        return self.at.stat().st_mtime_ns // 1_000_000


def notes(listing: Sequence[Place]) -> Iterator[Note]:
    """Yield the notes of a listing, the oldest first. One that is deleted meanwhile has no files any more.

    Raises
    ------
    OSError
        The store does not answer.
    """
    names = {at.name for at in listing}
    found = [at for at in listing if at.name.endswith(_END)]
    for at in sorted(found, key=lambda at: at.stat().st_mtime_ns):
        try:
            text = msgspec.json.decode(at.read_bytes(), type=_Text)
        except FileNotFoundError:
            continue
        except UNDECODABLE as exc:
            log.warning("%s is no note of withdrawn files: %s", at, exc)
            continue
        yield Note(at, tuple(text.files), not text.by or text.by in names)


def hidden(listing: Sequence[Place]) -> set[str]:
    """Return the names of the files in a listing that are withdrawn."""
    return {name for note in notes(listing) if note.counts for name in note.files}


def withdraw(folder: Stored, partition: int, names: Iterable[str], by: str = "") -> None:
    """Withdraw files of a partition, whose rows are in the file ``by``; in none if it is empty."""
    note = folder / f"p{partition:05d}-{secrets.token_hex(8)}{_END}"
    with tempfile.TemporaryFile() as handle:
        handle.write(msgspec.json.encode(_Text(list(names), by)))
        handle.flush()
        note.put(handle)


def delete_due(folder: Stored, partitions: Collection[int], stopping: Callable[[], bool]) -> None:
    """Delete what was withdrawn long ago in some partitions, then its notes.

    The present is the time of the newest object, so a wrong clock of this machine deletes nothing.
    """
    listing = list(folder.glob("*"))
    present = max((at.stat().st_mtime_ns // 1_000_000 for at in listing), default=0)
    ours = tuple(f"p{partition:05d}-" for partition in partitions)
    for note in notes(listing):
        if note.ts + GRACE_MS > present or not ours or not note.at.name.startswith(ours):
            continue
        for name in note.files if note.counts else ():
            if stopping():
                return
            (folder / name).unlink(missing_ok=True)
        note.at.unlink(missing_ok=True)
