"""Writes what was shown, behind the answers: impressions, and traces of a share of the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from headrace.agents.stage.replies_out import RepliesOut
from headrace.agents.stage.traces_out import TracesOut
from headrace.agents.stage.write_behind import WriteBehind
from headrace.serving.traces.record import Trace
from headrace.streams.messages.schemas import Impression

#: Most chunks of requests of which it is not written: when the broker is slower than this, no list is made.
WRITES = 32
#: What is made meanwhile is written together: a write costs as much as a tenth of a list.
PAUSE_S = 0.02


class ShownOut:
    """Takes impressions and traces of one chunk of requests after the other."""

    def __init__(self, out: RepliesOut, traces: TracesOut) -> None:
        self._out, self._traces = out, traces
        self._behind = WriteBehind[Impression | Trace](self._write, WRITES, PAUSE_S)

    async def add(
        self, impressions: Sequence[Impression], traces: Sequence[Trace]
    ) -> asyncio.Future[None] | None:
        """Return what ends when the broker has acknowledged them; None when there are none."""
        return await self._behind.add([*impressions, *traces]) if impressions or traces else None

    async def _write(self, made: Sequence[Impression | Trace]) -> None:
        await self._out.log([one for one in made if isinstance(one, Impression)])
        await self._traces.write([one for one in made if isinstance(one, Trace)])
