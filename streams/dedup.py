"""Recognise a producer's retries: the same event_id again within a window of event time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class DedupWindow:
    """Ids seen in the last one to two windows, in two generations: memory is bounded by the event rate."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = max(1, window_ms)
        self._enabled = window_ms > 0
        self._now: set[str] = set()
        self._before: set[str] = set()
        self._generation = 0

    def fresh(self, ids: Sequence[str], newest_ts: int) -> npt.NDArray[np.bool_]:
        """Return which ids were not seen before, bool ``(n,)``, and remember them.

        ``newest_ts`` (ms) is the batch's newest timestamp: it turns the generations over.
        """
        if not self._enabled:
            return np.ones(len(ids), bool)
        generation = newest_ts // self._window_ms
        if generation > self._generation:
            self._before = self._now if generation == self._generation + 1 else set()
            self._now = set()
            self._generation = generation
        now, before = self._now, self._before
        out = np.empty(len(ids), bool)
        for i, key in enumerate(ids):
            known = key in now or key in before
            out[i] = not known
            if not known:
                now.add(key)
        return out
