"""Sliding event-time windows in buckets, for many keys at once.

A window of one key is a ring of buckets for each *tier* (span, bucket width) and metric. Tiers share nothing,
so an event lands in one bucket of every tier:

    tier 1 h in 5-min buckets, newest event in bucket 17:   [ 5  6  7 ... 16 17 ]   head = 17
    an event of bucket 15 (late) adds to its own            slot = 15 % 13
    an event of bucket 19 moves the head, wiping            slots of 18 and 19 are zeroed first

A value is the sum of the buckets in ``(bucket(now) - n, bucket(now)]``: it depends on the events and the time
asked, never on arrival order, for every time asked that is at most ``AHEAD_MS`` before the newest event. One
producer whose clock runs ahead (within what is accepted) therefore costs nobody else's counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.settings import DAY_MS, HOUR_MS, MINUTE_MS

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]

#: How far events may be ahead of the time asked without wiping what the window still needs; events further in
#: the future are not accepted.
AHEAD_MS = 5 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Tier:
    """One resolution: ``buckets`` buckets of ``bucket_ms``, and spare ones for events ahead of time."""

    name: str
    bucket_ms: int
    buckets: int

    @property
    def ring(self) -> int:
        """Return the slots kept: the window, and what may lie ahead of it."""
        return self.buckets + -(-AHEAD_MS // self.bucket_ms)


TIERS: tuple[Tier, ...] = (
    Tier("5m", MINUTE_MS, 5),
    Tier("1h", 5 * MINUTE_MS, 12),
    Tier("24h", HOUR_MS, 24),
)
WEEK = Tier("7d", DAY_MS, 7)


class Windows:
    """Windows of several metrics over several tiers, stored in the fields of a structured dtype.

    Parameters
    ----------
    metrics
        Names of the metrics, in storage order.
    tiers
        Resolutions kept.
    prefix
        Put before the field names, when one row holds several windows.
    """

    def __init__(self, metrics: tuple[str, ...], tiers: tuple[Tier, ...] = TIERS, prefix: str = "") -> None:
        self.metrics = metrics
        self.tiers = tiers
        self._sums = [f"{prefix}w_{t.name}" for t in tiers]
        self._heads = [f"{prefix}h_{t.name}" for t in tiers]
        self._names = {(t.name, m): (i, j) for i, t in enumerate(tiers) for j, m in enumerate(metrics)}

    def fields(self) -> list[tuple[Any, ...]]:
        """Return the dtype fields a row needs: float32 ``(ring, metrics)`` and an int32 head per tier."""
        out: list[tuple[Any, ...]] = []
        for tier, sums, head in zip(self.tiers, self._sums, self._heads, strict=True):
            out.append((sums, np.float32, (tier.ring, len(self.metrics))))
            out.append((head, np.int32))
        return out

    def add(self, data: npt.NDArray[Any], rows: I64, ts: I64, metric: I64, amount: F32) -> None:
        """Add ``amount[i]`` to ``metric[i]`` of ``rows[i]`` at time ``ts[i]`` (ms); rows may repeat.

        What is older than a tier's ring is left out of that tier.
        """
        if not len(rows):
            return
        if len(rows) == 1:  # the array operations below cost ten times as much
            self._add_one(data, int(rows[0]), int(ts[0]), int(metric[0]), amount[0])
            return
        unique, where = np.unique(rows, return_inverse=True)
        for tier, sums_name, head_name in zip(self.tiers, self._sums, self._heads, strict=True):
            bucket = (ts // tier.bucket_ms).astype(np.int64)
            newest = np.full(len(unique), -1, np.int64)
            np.maximum.at(newest, where, bucket)
            self._advance(data, unique, newest, tier, sums_name, head_name)
            head = data[head_name][rows].astype(np.int64)
            fresh = bucket > head - tier.ring
            if not fresh.all():
                r, b, m, a = rows[fresh], bucket[fresh], metric[fresh], amount[fresh]
            else:
                r, b, m, a = rows, bucket, metric, amount
            np.add.at(data[sums_name], (r, b % tier.ring, m), a)

    def _add_one(self, data: npt.NDArray[Any], row: int, ts: int, metric: int, amount: float) -> None:
        for tier, sums_name, head_name in zip(self.tiers, self._sums, self._heads, strict=True):
            sums, heads = data[sums_name], data[head_name]
            bucket, head = ts // tier.bucket_ms, int(heads[row])
            if bucket > head:
                if bucket - head >= tier.ring:
                    sums[row] = 0
                else:
                    for passed in range(head + 1, bucket + 1):
                        sums[row, passed % tier.ring] = 0
                heads[row] = bucket
            if bucket > head - tier.ring:
                sums[row, bucket % tier.ring, metric] += amount

    @staticmethod
    def _advance(
        data: npt.NDArray[Any], rows: I64, newest: I64, tier: Tier, sums_name: str, head_name: str
    ) -> None:
        """Move the heads of ``rows`` up to ``newest`` and zero the slots passed."""
        head = data[head_name][rows].astype(np.int64)
        move = newest > head
        if not move.any():
            return
        rows, head, newest = rows[move], head[move], newest[move]
        slots = np.arange(tier.ring)
        ahead = (slots[None, :] - head[:, None] - 1) % tier.ring  # 0 = the slot right after the head
        stale = ahead < np.minimum(newest - head, tier.ring)[:, None]
        view = data[sums_name]
        r, s = np.nonzero(stale)
        view[rows[r], s] = 0
        data[head_name][rows] = newest

    def read(self, data: npt.NDArray[Any], now: int) -> F32:
        """Return every window of the rows ``data`` at ``now`` (ms), float32 ``(n, tiers, metrics)``."""
        out = np.zeros((len(data), len(self.tiers), len(self.metrics)), np.float32)
        for i, (tier, sums_name, head_name) in enumerate(
            zip(self.tiers, self._sums, self._heads, strict=True)
        ):
            live = self._live(data[head_name], tier, now)
            out[:, i] = np.matmul(live[:, None, :], data[sums_name])[:, 0]
        return out

    def read_one(
        self,
        data: npt.NDArray[Any],
        now: int,
        tier_name: str,
        metric: str,
        buckets: int | None = None,
        rows: I64 | None = None,
    ) -> F32:
        """Return one window of one metric at ``now``, float32 ``(n,)``: cheaper than ``read``.

        ``buckets`` asks for the tier's newest few only: 3 of the "1h" tier are the last 10 to 15 minutes.
        ``rows`` asks for these rows of ``data`` only, without copying the rest of them.
        """
        i, j = self._names[tier_name, metric]
        head, sums = data[self._heads[i]], data[self._sums[i]][:, :, j]
        if rows is not None:
            head, sums = head[rows], sums[rows]
        out: F32 = np.einsum("ns,ns->n", sums, self._live(head, self.tiers[i], now, buckets))
        return out

    @staticmethod
    def _live(head: npt.NDArray[np.int32], tier: Tier, now: int, buckets: int | None = None) -> F32:
        """Return which slots are inside the window at ``now``, float32 ``(n, ring)`` of 0 and 1."""
        h = head.astype(np.int64)
        ahead = np.minimum(np.maximum(h - now // tier.bucket_ms, -tier.ring), tier.ring)
        live: F32 = _masks(tier.ring, buckets or tier.buckets)[h % tier.ring, ahead + tier.ring]
        return live


@lru_cache(maxsize=64)
def _masks(ring: int, buckets: int) -> F32:
    """Return every possible answer of ``Windows._live``: looking it up is faster than working it out.

    Shape ``(ring, 2 * ring + 1, ring)``: by the slot of the head, by how many buckets it is ahead of the time
    asked (from ``-ring``, nothing is inside any more, to ``ring``), by slot.
    """
    slot, ahead, other = np.ogrid[:ring, -ring : ring + 1, :ring]
    back = (slot - other) % ring
    inside: F32 = ((back >= ahead) & (back < ahead + buckets)).astype(np.float32)
    return inside


def rounds(rows: I64) -> list[I64]:
    """Split positions so that no row repeats within a round and each row's order is kept.

    ``rows = [7, 3, 7, 7]`` gives ``[[0, 1], [2], [3]]``. Sequential updates (recent items, decayed
    affinities) become one vectorised step per round.
    """
    n = len(rows)
    if n == 0:
        return []
    if n == 1:
        return [np.zeros(1, np.int64)]
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.arange(n) - np.repeat(starts, np.diff(np.r_[starts, n]))
    last = int(rank.max())
    if last == 0:
        return [np.sort(order)]
    by_rank = np.argsort(rank, kind="stable")
    cuts = np.searchsorted(rank[by_rank], np.arange(1, last + 1))
    return [np.sort(order[part]) for part in np.split(by_rank, cuts)]
