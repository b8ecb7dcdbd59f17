"""Counts of a user or an item as fields of a row: windows, all-time totals, decayed counts.

One compiled pass (``counter``) updates all of them. The result does not depend on the order of the events:
windows and totals are integers, and decayed counts are sums of 64-bit floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.state.counter import Counter
from headrace.streams.settings import DAY_MS
from headrace.streams.windows import Windows

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

HALF_LIFE_MS = 30 * DAY_MS
#: Decayed counts are those at the start of a day, so that they are decayed once a day, not at every event.
STAND_MS = DAY_MS


class Counts:
    """Counts of several metrics: the fields they need in a row, adding to them, reading them.

    Parameters
    ----------
    metrics
        Names of the metrics, in storage order.
    high
        Dtype of the high part of a window's cells, by tier, where 16 bits are too few.
    wide
        All-time totals have 40 bits, else 32.

    Notes
    -----
    A decayed count at ``now`` is the sum of ``amount * 2 ** -((now - ts) / half life)``. The row has its
    value at the start of the day of the newest event (``updated``). An event of a later day moves that day
    forward and decays the count; any other event is added with the weight of its age. All counts stop at
    their largest value; none wraps around.
    """

    def __init__(
        self, metrics: tuple[str, ...], high: dict[str, np.dtype[Any]] | None = None, *, wide: bool = False
    ) -> None:
        self.metrics = metrics
        self.windows = Windows(metrics, high=high)
        self._wide = wide

    def summary(self) -> list[tuple[Any, ...]]:
        """Return the small fields of a row, which every event changes; the row adds ``updated`` itself."""
        n = len(self.metrics)
        heads = [field for field in self.windows.fields() if len(field) == 2]
        return [("decayed", "<f8", (n,)), ("totals", "<u4", (n,)), *heads]

    def cells(self) -> list[tuple[Any, ...]]:
        """Return the other fields a row needs, none wider than 16 bits, the widest first."""
        cells = [field for field in self.windows.fields() if len(field) == 3]
        return cells + ([("totals_x", "u1", (len(self.metrics),))] if self._wide else [])

    def counter(self, dtype: np.dtype[Any]) -> Counter:
        """Return the compiled counter for rows of ``dtype``."""
        tiers = [(t.name, t.bucket_ms, t.ring) for t in self.windows.tiers]
        return Counter(dtype, len(self.metrics), tiers, HALF_LIFE_MS, STAND_MS)

    def totals(self, data: npt.NDArray[Any], metric: str, rows: I64 | None = None) -> U64:
        """Return the all-time totals of one metric in the rows ``data``, uint64 ``(n,)``.

        ``rows`` asks for these rows of ``data`` only, without copying them.
        """
        j = self.metrics.index(metric)
        some = ... if rows is None else rows
        out: U64 = data["totals"][..., j][some].astype(np.uint64)
        if self._wide:
            out = out | data["totals_x"][..., j][some].astype(np.uint64) << np.uint64(32)
        return out

    def decayed(self, data: npt.NDArray[Any], now: int) -> F64:
        """Return the decayed counts of the rows ``data`` at ``now`` (ms), float64 ``(n, metrics)``.

        The weight of an event after ``now`` is a little more than 1.
        """
        age = now - data["updated"] // STAND_MS * STAND_MS
        out: F64 = data["decayed"] * np.exp2(-age / HALF_LIFE_MS)[..., None]
        return out
