"""Watches the Parquet log in the process of the trainer: scores that do not follow, features that move."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from mode import Service

from headrace.agents.wiring import Wiring
from headrace.models.learning import log_files, registry
from headrace.models.learning.log_watch import LogWatch
from headrace.models.learning.registry import Registry
from headrace.models.learning.shelf import Shelf
from headrace.streams.metrics import Sample

log = logging.getLogger(__name__)

#: Time between two looks, s. A look takes about a quarter of a second.
EVERY_S = 60.0
#: Features whose drift is in the metrics, the farthest first.
FARTHEST = 5


class Watching(Service):
    """Looks at the log when it has grown, in a thread; its metrics say what it found.

    Parameters
    ----------
    shelf
        Knows which ranker is live.
    """

    mundane_level = "debug"

    def __init__(self, wiring: Wiring, shelf: Shelf) -> None:
        self._wiring, self._shelf = wiring, shelf
        self._folder = log_files.folder_of(wiring.settings)
        self.watch = LogWatch(self._folder, Registry(registry.folder_of(wiring.settings)))
        self._looked: tuple[object, str] = ({}, "")
        wiring.metrics.read(self.read)
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "Watching"

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            await self._wiring.clock.sleep(EVERY_S)
            await self.once()

    async def once(self) -> None:
        """Look at the log, if it has grown or another ranker is live. A failure is logged."""
        try:
            live = self._shelf.pointers.live
            now = await asyncio.to_thread(log_files.newest, self._folder), live
            if now == self._looked:
                return
            wrong = await asyncio.to_thread(self.watch.look, live)
            self._looked = now
        except Exception:
            log.exception("the log could not be looked at", extra={"action": "watch_failed"})
            return
        if wrong:
            log.error(
                "%d logged scores do not follow from their features (offsets in examples: %s ...)",
                *(len(wrong), wrong[:5]),
                extra={"action": "skew", "what": "example_score"},
            )

    def read(self) -> Iterator[Sample]:
        """Yield all samples; drift is absent while it is not known."""
        yield Sample("headrace_skew_checked_total", self.watch.checked, ("example_score",))
        yield Sample("headrace_skew_differs_total", self.watch.skewed, ("example_score",))
        found = self.watch.drift
        if found:
            yield Sample("headrace_drift_rows", self.watch.rows)
            yield Sample("headrace_drift_most_ratio", found[0].psi)
        for one in found[:FARTHEST]:
            yield Sample("headrace_drift_ratio", one.psi, (one.feature,))
