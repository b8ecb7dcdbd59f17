"""Rows written too late to the online store: where it happened, and that their owner writes its own again.

A process looks at its lease before it writes. When it is stopped right after that look, for longer than its
lease, another worker owns the partition by the time the rows arrive, and has written newer ones::

    this worker      look at the lease   (stopped) ................ the rows arrive   the mark is moved back
    the new owner                              writes newer rows                      refills from the mark

The process itself notices it after the write. What it writes is never older than the rows before its mark, so
the mark is moved back to before that one. The owner, who knows where its mark was, sees that it was moved.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from headrace.agents.stage.refill import CopiedPartition

if TYPE_CHECKING:
    from headrace.agents.stage.online_copy import OnlineCopy

log = logging.getLogger(__name__)

#: A write that took longer may have arrived after those of another owner, also if this worker owns the
#: partition again by now.
LONG_S = 3.0


class Overwritten:
    """The partitions of one kind where rows of another owner may have been overwritten."""

    def __init__(self, copy: OnlineCopy) -> None:
        self._copy = copy
        self._back_to: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._back_to)

    @contextlib.contextmanager
    def noticing(self, parts: Mapping[int, CopiedPartition]) -> Iterator[None]:
        """Note which of ``parts`` another worker may have owned before the write in this block ended."""
        marks = {n: part.mark or 0 for n, part in parts.items()}
        began = self._copy.clock.monotonic()
        try:
            yield
        finally:
            late = self._copy.clock.monotonic() - began > LONG_S
            for n, mark in marks.items():
                if late or not self._copy.owned(n):
                    self._back_to[n] = min(mark, self._back_to.get(n, mark))

    async def move_back(self) -> None:
        """Move the marks of these partitions back. What fails stays to be done.

        Raises
        ------
        UnavailableError
            When the store does not answer.
        """
        copy = self._copy
        async with copy.marking:
            found = await copy.store.read_marks(copy.kind, list(self._back_to))
            # Without a mark, the owner has not begun, or begins again: it will write everything.
            back = {n: min(at, seen) - 1 for n, at in self._back_to.items() if (seen := found[n]) is not None}
            done = await copy.store.set_marks(copy.kind, back, found) if back else set()
        for n in found.keys() - (back.keys() - done):
            del self._back_to[n]
        if done:
            log.warning(
                "rows were written late to the online store (%s), so its marks of partitions %s were moved "
                "back: the owner writes them again",
                copy.kind,
                sorted(done),
                extra={"action": "late_rows", "kind": copy.kind},
            )
