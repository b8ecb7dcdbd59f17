"""Sliding event-time windows in buckets, for many keys at once.

A window of one key is a ring of buckets for each *tier* (span, bucket width) and metric. Tiers share nothing,
so an event lands in one bucket of every tier:

    tier 1 h in 5-min buckets, newest event in bucket 17:   [ 5  6  7 ... 16 17 ]   head = 17
    an event of bucket 15 (late) adds to its own            slot = 15 % 13
    an event of bucket 19 moves the head, wiping            slots of 18 and 19 are zeroed first

A value is the sum of the buckets in ``(bucket(now) - n, bucket(now)]``. It depends on the events and on the
time asked, not on the order of arrival, as long as that time is at most ``AHEAD_MS`` before the newest event.
A producer whose clock is ahead does not change other producers' counts. Counts are integers and stop at the
largest value of a bucket, which is the same in every order, too.

This module lays the rows out and reads them. ``headrace.models.state.counter`` adds events to them, together
with the other counts of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS
from headrace.streams.window_sums import WindowSums

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]

#: Events may be this far ahead of the time asked: their buckets do not replace buckets of the window. Events
#: further in the future are not accepted.
AHEAD_MS = 5 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Tier:
    """One resolution: ``buckets`` buckets of ``bucket_ms``, and spare ones for events ahead of time."""

    name: str
    bucket_ms: int
    buckets: int

    @property
    def ring(self) -> int:
        """Return the number of slots: those of the window, and those ahead of it."""
        return self.buckets + -(-AHEAD_MS // self.bucket_ms)


TIERS: tuple[Tier, ...] = (
    Tier("5m", MINUTE_MS, 5),
    Tier("1h", 5 * MINUTE_MS, 12),
    Tier("24h", HOUR_MS, 24),
    Tier("7d", DAY_MS, 7),
)
#: The windows readers ask for.
WINDOW_NAMES = ("5m", "30m", "1h", "24h", "7d")
#: Windows that are the newest few buckets of a tier: its name, how many.
_PART_OF = {"30m": ("1h", 6)}


class Windows:
    """Windows of several metrics over several tiers, stored in the fields of a structured dtype.

    Parameters
    ----------
    metrics
        Names of the metrics, in storage order.
    tiers
        Resolutions kept.
    high
        By tier: dtype (uint8 or uint16) of a high part, for counts of 24 or 32 bits instead of 16.
    prefix
        Put before the field names, when one row holds several windows.

    Attributes
    ----------
    names
        The windows ``read`` returns, in order: those of ``WINDOW_NAMES`` that the tiers can answer, then
        tiers of other names.
    """

    def __init__(
        self,
        metrics: tuple[str, ...],
        tiers: tuple[Tier, ...] = TIERS,
        high: Mapping[str, npt.DTypeLike] | None = None,
        prefix: str = "",
    ) -> None:
        self.metrics = metrics
        self.tiers = tiers
        self._prefix = prefix
        self._high = {name: np.dtype(dtype) for name, dtype in (high or {}).items()}
        kept = {tier.name: i for i, tier in enumerate(tiers)}
        if not self._high.keys() <= kept.keys() or any(d not in ("u1", "u2") for d in self._high.values()):
            raise ValueError(f"high parts are uint8 or uint16, of the tiers {tuple(kept)}")
        asked: dict[str, tuple[int, int]] = {}
        for name in (*WINDOW_NAMES, *kept):
            tier_name, buckets = _PART_OF.get(name, (name, 0))
            if tier_name in kept:
                asked[name] = kept[tier_name], buckets or tiers[kept[tier_name]].buckets
        self.names = tuple(asked)
        self._asked = asked
        self._asked_array = np.array(list(asked.values()), np.int64)
        self._metric = {metric: j for j, metric in enumerate(metrics)}
        self._dtype: np.dtype[Any] | None = None
        self._sums: WindowSums | None = None

    def fields(self) -> list[tuple[Any, ...]]:
        """Return the dtype fields a row needs, the widest first, so that none needs padding before it.

        Of each tier: ``h_<tier>`` int32, the bucket of the newest event; ``w_<tier>`` uint16 ``(ring,
        metrics)``, the counts or their low parts; ``x_<tier>``, same shape, the high parts where asked for.
        """
        p, m = self._prefix, len(self.metrics)
        heads: list[tuple[Any, ...]] = [(f"{p}h_{t.name}", "<i4") for t in self.tiers]
        lows = [(f"{p}w_{t.name}", "<u2", (t.ring, m)) for t in self.tiers]
        highs = [
            (f"{p}x_{t.name}", self._high[t.name].str, (t.ring, m))
            for t in self.tiers
            if t.name in self._high
        ]
        return heads + lows + sorted(highs, key=lambda f: -np.dtype(f[1]).itemsize)

    def read(
        self, data: npt.NDArray[Any], now: int, rows: I64 | None = None, names: tuple[str, ...] | None = None
    ) -> F32:
        """Return every window of every metric at ``now`` (ms), float32 ``(n, len(names), metrics)``.

        ``rows`` asks for these rows of ``data`` only, without copying them; row -1 has counted nothing.
        ``names`` asks for these windows only, in this order.
        """
        asked = self._asked_array
        if names is not None:
            asked = np.array([self._asked[name] for name in names], np.int64)
        return self.sums_of(data.dtype).read(data, asked, now, rows)

    def read_one(
        self,
        data: npt.NDArray[Any],
        now: int,
        window: str,
        metric: str,
        buckets: int | None = None,
        rows: I64 | None = None,
    ) -> F32:
        """Return one window of one metric at ``now``, float32 ``(n,)``: cheaper than ``read``.

        ``buckets`` limits it to the newest buckets of the tier: 3 of the "1h" tier are the last 10 to 15
        minutes.
        ``rows`` is the same as in ``read``.
        """
        tier, most = self._asked[window]
        return self.sums_of(data.dtype).read_one(data, tier, self._metric[metric], buckets or most, now, rows)

    def asked(self, name: str) -> tuple[int, int]:
        """Return the tier that a window is read from, by its place, and how many of its buckets."""
        return self._asked[name]

    def sums_of(self, dtype: np.dtype[Any]) -> WindowSums:
        """Return the reader of the windows in rows of a dtype."""
        if self._sums is None or dtype is not self._dtype:
            fields, p = _fields(dtype), self._prefix
            plan = []
            for tier in self.tiers:
                high = self._high.get(tier.name)
                low_at, head_at = fields[f"{p}w_{tier.name}"][1], fields[f"{p}h_{tier.name}"][1]
                high_at = fields[f"{p}x_{tier.name}"][1] if high else 0
                plan.append(
                    [low_at, high_at, head_at, tier.bucket_ms, high.itemsize if high else 0, tier.ring]
                )
            self._sums = WindowSums(np.array(plan, np.int64), len(self.metrics), dtype.itemsize)
            self._dtype = dtype
        return self._sums


def _fields(dtype: np.dtype[Any]) -> Mapping[str, Any]:
    fields = dtype.fields
    if fields is None:
        raise TypeError(f"{dtype} has no fields")
    return fields
