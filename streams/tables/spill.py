"""Spill files: packed rows on the local disk, for rows that are evicted from memory.

A file has no name: the kernel frees it when the process ends, however it ends. It is written in segments,
one after the other, so that a batch of rows is one write. Rows that are not needed any more leave holes; a
segment without rows is used again. A file that is mostly holes has a segment to be emptied (``sparse``).

A disk that is full, read-only or broken stops nothing: rows stay in memory until it can be written again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import weakref
from itertools import repeat
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.tables.rows import PackedRows

I64: TypeAlias = npt.NDArray[np.int64]
U64: TypeAlias = npt.NDArray[np.uint64]

log = logging.getLogger(__name__)

#: Size of a segment. No row is larger.
SEGMENT_BYTES = 1024 * 1024
#: A file may have this many segments more than twice the bytes of its rows.
SPARE_SEGMENTS = 8
#: Rows with at most this many bytes between them are read at once.
GAP_BYTES = 1024
#: Pause after a failed write, s; after a failed read, which means that the disk loses data; between warnings.
RETRY_S, BROKEN_S, QUIET_S = 5.0, 60.0, 30.0


class SpillFolder:
    """The folder of spill files, and whether its disk can be written.

    Parameters
    ----------
    path
        The folder, made when it is needed; None: the system's folder of temporary files.
    clock
        Time of pauses and warnings.
    """

    def __init__(self, path: Path | None = None, clock: Clock = SYSTEM) -> None:
        self.path = path
        self._clock = clock
        self._until = self._quiet_until = -1.0
        self._failing = False

    def open(self) -> int:
        """Return the descriptor of a new file without a name."""
        if self.path is not None:
            self.path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.path) as file:
            return os.dup(file.fileno())

    @property
    def usable(self) -> bool:
        """Whether a write may be tried now."""
        return self._clock.monotonic() >= self._until

    def fine(self) -> None:
        """Note a write that succeeded."""
        if self._failing:
            self._failing = False
            log.info("rows are evicted to %s again", self.path, extra={"action": "spill_up"})

    def failed(self, exc: OSError, pause_s: float = RETRY_S) -> None:
        """Note a failure: nothing is written for ``pause_s`` seconds. Warn, unless that was done lately."""
        now = self._clock.monotonic()
        self._until, self._failing = max(self._until, now + pause_s), True
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_S
            log.warning(
                "no rows can be evicted to %s; they stay in memory, which grows: %s",
                self.path,
                exc,
                extra={"action": "spill_down"},
            )

    def broken(self, what: str) -> None:
        """Note that the disk lost data: nothing is written to it for a while."""
        self.failed(OSError(what), BROKEN_S)


class Spill:
    """Packed rows of one partition in a file without a name. The file is made by the first write.

    Attributes
    ----------
    folder
        Where the file is.
    """

    def __init__(self, folder: SpillFolder) -> None:
        self.folder = folder
        self._fd = -1
        self._live: I64 = np.zeros(0, np.int64)  # bytes of rows in each segment
        self._keys: list[list[U64]] = []  # keys written to each segment, also of rows freed since
        self._free: list[int] = []  # segments without rows
        self._open, self._end = -1, SEGMENT_BYTES  # the segment that is written, and where it goes on

    @property
    def nbytes(self) -> int:
        """Size of the file, bytes."""
        return len(self._live) * SEGMENT_BYTES

    @property
    def index_bytes(self) -> int:
        """Bytes in memory of the keys written to each segment."""
        return sum(keys.nbytes for some in self._keys for keys in some)

    @property
    def live_bytes(self) -> int:
        """Bytes of the rows in the file."""
        return int(self._live.sum())

    def write(self, packed: PackedRows) -> I64:
        """Write rows; return their positions, int64 ``(m,)``: m is less than n when the disk fails."""
        at = np.empty(len(packed), np.int64)
        done = 0
        try:
            while done < len(packed) and self.folder.usable:
                piece = next(packed[done:].chunks(SEGMENT_BYTES - self._end, len(packed)))
                size = int(piece.bounds[-1] - piece.bounds[0])
                if size > SEGMENT_BYTES - self._end:  # not even one row fits
                    self._next_segment()
                    continue
                start = self._open * SEGMENT_BYTES + self._end
                self._write(memoryview(piece.blob)[piece.bounds[0] : piece.bounds[-1]], start)
                at[done : done + len(piece)] = start + piece.bounds[:-1] - piece.bounds[0]
                self._live[self._open] += size
                self._keys[self._open].append(piece.keys)
                self._end += size
                done += len(piece)
                self.folder.fine()
        except OSError as exc:
            self.folder.failed(exc)
        return at[:done]

    def _write(self, data: memoryview, at: int) -> None:
        if self._fd < 0:
            self._fd = self.folder.open()
            weakref.finalize(self, os.close, self._fd)
        while data:  # a write to a disk that is nearly full may be short
            done = os.pwrite(self._fd, data, at)
            data, at = data[done:], at + done

    def _next_segment(self) -> None:
        full = self._open
        if not self._free:
            self._live = np.append(self._live, 0)
            self._keys.append([])
            self._free.append(len(self._keys) - 1)
        self._open, self._end = self._free.pop(), 0
        self._release(full)

    def _release(self, segment: int) -> None:
        if segment >= 0 and segment != self._open and not self._live[segment]:
            self._keys[segment] = []
            self._free.append(segment)

    def free(self, at: I64, sizes: I64) -> None:
        """Give up rows by position and size."""
        if not len(at):
            return
        given_up = np.bincount(at // SEGMENT_BYTES, sizes, len(self._live)).astype(np.int64)
        self._live -= given_up
        for segment in np.flatnonzero((given_up > 0) & (self._live == 0)).tolist():
            self._release(segment)
        if not self._live.any():
            self.clear()

    def read(self, at: I64, sizes: I64) -> list[bytes]:
        """Return rows by position and size; fewer bytes than that where the disk does not give them.

        Positions must be ascending.
        """
        if not len(at):
            return []
        ends = at + sizes
        cuts = np.flatnonzero(at[1:] - ends[:-1] > GAP_BYTES) + 1
        firsts, lasts = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(at)]])
        begins = at[firsts]
        spans = self._read(begins.tolist(), (ends[lasts - 1] - begins).tolist())
        if len(spans) == len(at):
            return spans
        span = np.repeat(np.arange(len(spans)), lasts - firsts)
        inside = np.stack([span, at - begins[span], ends - begins[span]], axis=1).tolist()
        return [spans[n][start:end] for n, start, end in inside]

    def _read(self, begins: list[int], sizes: list[int]) -> list[bytes]:
        try:
            return list(map(os.pread, repeat(self._fd), sizes, begins))
        except OSError as exc:
            if len(begins) == 1:
                self.folder.broken(str(exc))
                return [b""]
        return [self._read([begin], [size])[0] for begin, size in zip(begins, sizes, strict=True)]

    def sparse(self) -> int:
        """Return the segment with the fewest bytes of rows when the file has too many holes, else -1."""
        used = len(self._live) - len(self._free)
        if used * SEGMENT_BYTES <= 2 * self.live_bytes + SPARE_SEGMENTS * SEGMENT_BYTES:
            return -1
        live = np.where(self._live > 0, self._live, SEGMENT_BYTES + 1)
        live[self._open] = SEGMENT_BYTES + 1
        return int(live.argmin())

    def keys_in(self, segment: int) -> U64:
        """Return the keys of all rows written to a segment, uint64 ``(n,)``, also of rows freed since."""
        return np.concatenate(self._keys[segment])

    def clear(self) -> None:
        """Give up all rows and the room on the disk."""
        self._live, self._keys, self._free = self._live[:0].copy(), [], []
        self._open, self._end = -1, SEGMENT_BYTES
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
