"""Hears what the transport does. An app without a watcher has one that does nothing."""

from __future__ import annotations

from typing import Any, NamedTuple


class BatchEnd(NamedTuple):
    """A batch whose loop body has ended without an error.

    Attributes
    ----------
    tp
        Its (topic, partition).
    records
        Number of records.
    next_offset
        Offset after the last one.
    timestamp_s
        Time of the last one, s since the epoch.
    seconds
        Time that the body took, s.
    """

    tp: tuple[str, int]
    records: int
    next_offset: int
    timestamp_s: float
    seconds: float


class Watcher:
    """Does nothing; derived classes measure."""

    def batch_ended(self, end: BatchEnd) -> None:
        """Hear of a batch."""

    def committed(self, seconds: float, *, done: bool) -> None:
        """Hear of a commit of offsets: how long it took, and whether it was done."""


_NOBODY = Watcher()


def watcher_of(app: Any) -> Watcher:
    """Return what was set as ``app.watcher``."""
    found: Watcher = getattr(app, "watcher", _NOBODY)
    return found
