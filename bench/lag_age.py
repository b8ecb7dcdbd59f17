"""How old the lag on an open dashboard is."""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

import aiohttp
import msgspec

from headrace.streams.clock import now_ms

#: Pause between two attempts to connect, s.
AGAIN_S = 0.2


class LagAge:
    """Reads the stream of a monitor as a page does. A lag is on the page until the next one arrives.

    Attributes
    ----------
    oldest_s
        Of each lag that was shown, how old it was when the next one took its place, s.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._shown_ms = 0
        self.oldest_s: list[float] = []

    async def run(self) -> None:
        """Read until cancelled, from when the monitor listens."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                try:
                    await self._read(session)
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(AGAIN_S)

    async def _read(self, session: aiohttp.ClientSession) -> None:
        async with session.get(self._url) as stream:
            text = b""
            async for piece in stream.content.iter_any():
                *events, text = (text + piece).split(b"\n\n")
                for event in events:
                    if event.startswith(b"data: "):
                        self._take(msgspec.json.decode(event[6:]))

    def _take(self, figures: dict[str, Any]) -> None:
        at = (figures.get("lag") or {}).get("at", 0)
        if at > self._shown_ms:
            if self._shown_ms:
                self.oldest_s.append((now_ms() - self._shown_ms) / 1000)
            self._shown_ms = at

    def figures(self) -> dict[str, float]:
        """Return how old a lag becomes: half of the time, 99 in 100, at most; and how many there were."""
        ages = sorted(self.oldest_s)
        return {
            "half": round(statistics.median(ages), 2),
            "p99": round(ages[int(0.99 * (len(ages) - 1))], 2),
            "most": round(ages[-1], 2),
            "seen": len(ages),
        }
