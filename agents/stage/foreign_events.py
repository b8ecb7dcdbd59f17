"""Events of others, for the agents that read `events`: schemas are there before records are translated.

While the registry does not answer, the batch waits, as for a broker that is away. Nothing of it is lost, and
nothing becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from headrace.agents.wiring import Wiring
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.formats.chosen import chosen
from headrace.streams.messages.formats.translated import Translated

log = logging.getLogger(__name__)

#: First and longest pause before the registry is asked again, s.
RETRY_S, LONGEST_S = 0.25, 5.0


class ForeignEvents:
    """Translates batches of `events` as the settings say; without such settings, it does nothing.

    Parameters
    ----------
    wiring
        Settings, clock and metrics.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._chosen = chosen(wiring.settings)

    async def read(self, records: Sequence[Any], *, count: bool = False) -> Translated:
        """Return records of `events`, those of others as ours.

        Parameters
        ----------
        count
            Whether records that are ignored are counted: one of the agents does it.
        """
        if self._chosen is None:
            return Translated(records)
        await self._load(records)
        told = self._chosen.translator.read(records)
        if told.ignored and count:
            self._wiring.metrics.count("headrace_ignored_events_total", by=told.ignored)
        return told

    async def _load(self, records: Sequence[Any]) -> None:
        """Get the schemas of records; wait as long as the registry does not answer."""
        chosen, pause = self._chosen, RETRY_S
        assert chosen is not None  # noqa: S101 - narrowed by the only caller
        if chosen.schemas is None:
            return
        clock = self._wiring.clock.monotonic
        missing = chosen.missing(records, clock())
        while missing:
            try:
                await asyncio.to_thread(chosen.schemas.load, missing, clock())
            except UnavailableError as exc:
                log.warning("events wait for a schema: %s", exc, extra={"action": "registry_away"})
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_S)
