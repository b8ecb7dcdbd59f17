"""What the dashboard shows now, and who watches it. Everybody gets the same bytes: they are made once."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import numpy as np

from headrace.serving.monitor.figures import MEANS
from headrace.streams.series import Rows, Series

#: Range that a page asks for -> tier of the series and newest buckets of it.
RANGES: Final = {"15m": (0, 450), "6h": (1, 360), "24h": (1, 1440), "30d": (2, 720)}
#: Without anything new for so long, s, a comment goes out, so that a dead connection is noticed.
ALIVE_S: Final = 10.0

_encode = msgspec.json.Encoder().encode


class Board:
    """The newest figures, the series, and the streams that wait for more.

    Attributes
    ----------
    now
        The newest figures, as they are sent.
    """

    def __init__(self) -> None:
        self.series = Series(MEANS)
        self.now: dict[str, Any] = {}
        self._frame = b"{}"
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def frame(self) -> bytes:
        """The newest figures as JSON."""
        return self._frame

    def publish(self, at_ms: int, **changed: Any) -> None:
        """Take figures that changed; tell everybody who watches."""
        self.now = {**self.now, **changed, "at": at_ms}
        self._frame = _encode(self.now)
        changed_before, self._changed = self._changed, asyncio.Event()
        changed_before.set()

    def point(self, at_s: float, point: dict[str, float]) -> dict[str, float]:
        """Add a point to the series; return it in the digits that are sent."""
        self.series.add(at_s, point)
        return {name: short(value) for name, value in point.items() if math.isfinite(value)}

    def history(self, name: str) -> bytes:
        """Return the series of a range of ``RANGES`` as JSON."""
        found = self.series.history(*RANGES[name])
        values = {series: _shorts(row) for series, row in found.values.items()}
        return _encode({"range": name, "step": found.step, "end": found.end, "values": values})

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._changed.set()

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the figures as server-sent events: those of now at once, then whenever they change."""
        while not self._closed:
            changed = self._changed
            yield b"data: " + self._frame + b"\n\n"
            while not changed.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), ALIVE_S)
                if not changed.is_set():
                    yield b": alive\n\n"


def short(value: float) -> float:
    """Return a number with four digits that count."""
    return float(f"{value:.4g}")


def _shorts(row: Rows) -> list[float | None]:
    known = ~np.isnan(row)
    return [
        short(value) if there else None for value, there in zip(row.tolist(), known.tolist(), strict=True)
    ]
