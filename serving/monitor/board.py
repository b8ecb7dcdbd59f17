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
#: Figures that are held go out after so long, s, when nothing is published meanwhile.
HELD_S: Final = 2.5

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
        """The newest figures as JSON: the same object until there are others."""
        self._frame = self._frame or _encode(self.now)
        return self._frame

    def hold(self, at_ms: int, **changed: Any) -> None:
        """Take figures that changed; who watches gets them with the next ones that are published.

        A page is laid out and painted for every set of figures, however little is in it.
        """
        self.now = {**self.now, **changed, "at": at_ms}
        self._frame = b""

    def publish(self, at_ms: int, **changed: Any) -> None:
        """Take figures that changed; tell everybody who watches."""
        self.hold(at_ms, **changed)
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
        """Yield the figures as server-sent events: those of now at once, then whenever some are published."""
        while not self._closed:
            changed, sent, quiet_s = self._changed, self.frame, 0.0
            yield b"data: " + sent + b"\n\n"
            while not changed.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), HELD_S)
                if self.frame is not sent:
                    break
                quiet_s += HELD_S
                if quiet_s >= ALIVE_S:
                    quiet_s = 0.0
                    yield b": alive\n\n"


def short(value: float) -> float:
    """Return a number with four digits that count."""
    return float(f"{value:.4g}")


def _shorts(row: Rows) -> list[float | None]:
    known = ~np.isnan(row)
    return [
        short(value) if there else None for value, there in zip(row.tolist(), known.tolist(), strict=True)
    ]
