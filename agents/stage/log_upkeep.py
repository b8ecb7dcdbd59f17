"""Upkeep of the Parquet log by the process that writes it: merges and deletes files of its partitions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from mode import Service

from headrace.models.learning import compaction
from headrace.models.learning.places import Place
from headrace.streams.clock import Clock
from headrace.streams.settings import DAY_MS

log = logging.getLogger(__name__)

#: Time between two runs, s.
EVERY_S = 300.0


class LogUpkeep(Service):
    """Runs ``compaction.tend`` from time to time, in a thread.

    Parameters
    ----------
    folder
        Folder of the log.
    owned
        Returns the partitions that are assigned to this process now.
    keep_days
        Age at which a file is deleted, days; 0 = never.
    """

    def __init__(
        self, folder: Place, owned: Callable[[], Collection[int]], keep_days: float, clock: Clock
    ) -> None:
        self._folder, self._owned, self._clock = folder, owned, clock
        self._keep_ms = int(keep_days * DAY_MS)
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "LogUpkeep"

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            await self._clock.sleep(EVERY_S)
            await self.once()

    async def once(self) -> None:
        """Tend the log once. A failure is logged, and the next run tries again: no row is lost by it."""
        try:
            done = await asyncio.to_thread(
                compaction.tend,
                self._folder,
                self._owned(),
                keep_ms=self._keep_ms,
                now=self._clock.now_ms(),
                stopping=lambda: self.should_stop,
            )
        except compaction.InterruptedMergeError:
            return
        except OSError as exc:
            log.warning("the upkeep of the training log waits: %s", exc, extra={"action": "upkeep_waits"})
            return
        except Exception:
            log.exception("the upkeep of the training log failed", extra={"action": "upkeep_failed"})
            return
        if done.merged or done.expired:
            log.info(
                "the training log: %d files became %d, %d old files were deleted",
                done.sources,
                done.merged,
                done.expired,
            )
