"""Measures how late the timers of the event loop are: what holds the loop delays everything by as much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.streams.timer import Timer

#: Time between two timers, s. Whatever holds the loop for longer than this is seen.
EVERY_S = 0.02


class LoopProbe(Timer):
    """Sets a timer again and again.

    Parameters
    ----------
    late
        Called with the lateness of each, s.
    """

    def __init__(self, late: Callable[[float], None], **kwargs: Any) -> None:
        self._late = late
        super().__init__(EVERY_S, **kwargs)

    def ring(self, late_s: float) -> None:
        """Tell how late it is."""
        self._late(late_s)
