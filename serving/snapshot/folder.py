"""The folder of the snapshots: a new one takes the place of the last in one step, old ones are removed.

Each snapshot is a folder ``catalog-<number>``. The file ``CURRENT`` has the name of the newest complete one.
A process that has a snapshot open holds a shared lock on its manifest. A new snapshot is written under
another name, by one process at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from headrace.serving.snapshot.files import MANIFEST, SnapshotError
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.streams.settings import HOUR_MS, Settings

_CURRENT = "CURRENT"
_LOCK = "LOCK"
_NAME = "catalog-{:08d}"
_ASIDE = ".writing"
#: So many of the newest snapshots stay: a process that is about to open one finds it.
_KEPT = 2
#: How often opening is tried again when a newer snapshot took the place of the one that was to be opened.
_TRIES = 5


#: An older snapshot is not used: compaction keeps a tombstone for a day (delete.retention.ms). When it is
#: gone, an item that was withdrawn after the snapshot was written would come back.
MAX_AGE_MS = 12 * HOUR_MS


def folder_of(settings: Settings) -> Path:
    """Return the folder of the snapshots of an installation."""
    return (
        Path(settings.catalog_dir) if settings.catalog_dir else settings.data_dir / settings.name("catalogue")
    )


def check_age(snapshot: CatalogSnapshot, now: int) -> None:
    """Raise ``SnapshotError`` when a snapshot is too old at ``now`` (ms)."""
    age = now - snapshot.written_ms
    if age > MAX_AGE_MS:
        raise SnapshotError(
            f"{snapshot.folder} is {age / HOUR_MS:.1f} hours old, at most {MAX_AGE_MS // HOUR_MS} are allowed"
        )


def check_fits(folder: Path, why: str) -> None:
    """Raise ``SnapshotError`` when there is a reason why a snapshot does not fit."""
    if why:
        raise SnapshotError(f"{folder}: {why}")


class SnapshotFolder:
    """Where the snapshots of a machine are.

    Parameters
    ----------
    path
        The folder; made when the first snapshot is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def current(self) -> Path | None:
        """Return the folder of the newest snapshot, None when there is none."""
        try:
            name = (self.path / _CURRENT).read_text().strip()
        except FileNotFoundError:
            return None
        return self.path / name

    def open(self, *, thorough: bool = False) -> CatalogSnapshot | None:
        """Open the newest snapshot; None when there is none.

        Raises
        ------
        SnapshotError
            When it cannot be used.
        """
        for last in range(_TRIES, 0, -1):
            folder = self.current()
            if folder is None:
                return None
            try:
                return CatalogSnapshot(folder, thorough=thorough)
            except SnapshotError:
                if last == 1 or folder == self.current():
                    raise
        return None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        """Give an empty folder to write a snapshot into; it becomes the newest when the block ends well.

        Raises
        ------
        BlockingIOError
            When another process is writing one.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            aside = self.path / _ASIDE
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            try:
                yield aside
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
            self._publish(aside)
            self._remove_old()

    def _numbers(self) -> list[int]:
        found = (path.name.removeprefix("catalog-") for path in self.path.glob("catalog-*"))
        return sorted(int(number) for number in found if number.isdigit())

    def _publish(self, aside: Path) -> None:
        name = _NAME.format(max(self._numbers(), default=0) + 1)
        aside.rename(self.path / name)
        _sync(self.path)
        fresh = self.path / f"{_CURRENT}.tmp"
        with fresh.open("w") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path / _CURRENT)
        _sync(self.path)

    def _remove_old(self) -> None:
        """Remove the snapshots that are not among the newest and that no process has open."""
        for number in self._numbers()[:-_KEPT]:
            folder = self.path / _NAME.format(number)
            if _unused(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _unused(folder: Path) -> bool:
    """Return whether no process has a snapshot open."""
    try:
        with (folder / MANIFEST).open("rb") as manifest:
            fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
