"""Mirrors the registry and its pointers to MLflow, in the background: nothing waits for it."""

from __future__ import annotations

import asyncio
import logging

from mode import Service

from headrace.agents.stage.pointing import read_shelf
from headrace.agents.wiring import Wiring
from headrace.models.learning import registry
from headrace.models.learning.ranker import NAME
from headrace.models.learning.registry import Registry
from headrace.models.learning.shelf import Shelf
from headrace.models.learning.tracking import Tracking
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.tail import Tail

log = logging.getLogger(__name__)

#: Time between two looks at the registry and the pointers, s.
LOOK_S = 10.0


def tracking_of(settings: Settings) -> Tracking:
    """Return the runs of an installation."""
    return Tracking(settings.mlflow_uri, f"headrace-{settings.name(NAME)}")


class MlflowMirror(Service):
    """Makes MLflow what the registry and the pointers are, whenever one of them has changed.

    Parameters
    ----------
    tail, shelf
        What reads `models`, and what it knows.
    """

    def __init__(self, wiring: Wiring, tail: Tail, shelf: Shelf) -> None:
        self._wiring, self._tail, self._shelf = wiring, tail, shelf
        self._kept = Registry(registry.folder_of(wiring.settings))
        self._tracking = tracking_of(wiring.settings)
        self._done: object = None
        self._away = False
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "MlflowMirror"

    @Service.task
    async def _run(self) -> None:
        await self._tail.caught_up.wait()
        while not self.should_stop:
            await self.once()
            await self.sleep(LOOK_S)

    async def once(self) -> None:
        """Mirror what has changed. A failure is counted, the first one logged; the next look tries again."""
        try:
            state = await asyncio.to_thread(self._kept.names), self._shelf.pointers
            if state == self._done:
                return
            await asyncio.to_thread(self._sync)
        except (UnavailableError, OSError) as exc:
            self._wiring.metrics.count("headrace_mlflow_failures_total")
            if not self._away:
                log.warning("the mirror of the rankers waits: %s", exc, extra={"action": "mlflow_waits"})
            self._away = True
        except Exception:
            self._wiring.metrics.count("headrace_mlflow_failures_total")
            log.exception("the mirror of the rankers failed", extra={"action": "mlflow_failed"})
        else:
            self._done = state
            if self._away:
                self._away = False
                log.info("the rankers are mirrored again", extra={"action": "mlflow_again"})

    def _sync(self) -> None:
        now = self._wiring.clock.now_ms()
        self._tracking.sync(self._kept, self._shelf.pointers, now, lambda: self.should_stop)


async def mirror_once(wiring: Wiring) -> None:
    """Mirror what there is now; when MLflow does not answer, log it.

    Raises
    ------
    UnavailableError
        The broker does not answer.
    """
    settings = wiring.settings
    shelf = await read_shelf(settings, wiring.topics.models)
    kept = Registry(registry.folder_of(settings))
    try:
        await asyncio.to_thread(tracking_of(settings).sync, kept, shelf.pointers, wiring.clock.now_ms())
    except UnavailableError as exc:
        log.warning("the ranker is not mirrored now, but by the next trainer: %s", exc)
