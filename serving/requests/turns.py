"""When a bulk list may be made: while no other request waits, and in a part of the time that is free. Pure.

    interactive   |##|          |####|                |##|
    bulk               |#|  |#|        |#|  |#|  |#|       |#|
                      ^quiet  ^rest    ^quiet

An event loop does one thing at a time, so a request that comes during a bulk list waits for the end of that
list. The rest after each list has two purposes. It bounds the share of bulk lists. And it lets a request come
in: from the broker to its list it needs several turns of the loop, and no list may be made between them.
"""

from __future__ import annotations

import math
from typing import Final

#: While a request is being answered, it is asked again after so long (s) whether a list may be made.
LOOK_S: Final = 0.004
#: So long (s) after the last answer no list is made: the next request may be on its way.
QUIET_S: Final = 0.002
#: Shortest and longest rest after a list, s.
MIN_REST_S, MAX_REST_S = 0.001, 1.0
#: The load is measured over at least so long, and its mean is over about so long, s.
_SPAN_S, _MEAN_S = 0.05, 1.0
#: Smallest share, however large the load: what is read is answered at some time.
_LEAST: Final = 0.01


class Turns:
    """The turns of bulk lists. Times are in seconds: of a monotonic clock, and of the CPU of the event loop.

    Parameters
    ----------
    share
        Largest share of the time that is free which bulk lists take.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._answering = 0
        self._busy = self._busy_since = 0.0
        self._not_before = -math.inf
        self._began: tuple[float, float] | None = None
        self._spent = 0.0
        self._looked: tuple[float, float, float] | None = None
        self.load = 0.0

    @property
    def share(self) -> float:
        """The share of the time that bulk lists may take now; ``load`` is the share of everything else."""
        return max(_LEAST, self._share * (1 - self.load))

    def begin(self, now: float) -> None:
        """Note that work on other requests begins."""
        if not self._answering:
            self._busy_since = now
        self._answering += 1

    def end(self, now: float) -> None:
        """Note that it has ended, or waits for somebody else."""
        self._answering -= 1
        if not self._answering:
            self._busy += now - self._busy_since
        self._not_before = max(self._not_before, now + QUIET_S)

    def wait_s(self, now: float, cpu: float, queued: int = 0, *, hurry: bool = False) -> float:
        """Return for how long no bulk list may be made; then ask again. 0: one is made now, see ``made``.

        Parameters
        ----------
        now, cpu
            Monotonic time; CPU time of the event loop.
        queued
            Batches of other requests that wait.
        hurry
            Whether no request can come any more, because the worker stops: there is no rest then.
        """
        self._look(now, cpu)
        if self._answering or queued:
            return LOOK_S
        if now < self._not_before and not hurry:
            return self._not_before - now
        self._began = now, cpu
        return 0.0

    def made(self, now: float, cpu: float) -> None:
        """Note that the list is made, if one was: a rest begins. The times are as in ``wait_s``.

        The rest is longer when the list took long because other processes have the CPU.
        """
        if self._began is None:
            return
        took = now - self._began[0]
        self._spent += cpu - self._began[1]
        self._began = None
        rest = took * (1 - self.share) / self.share
        self._not_before = max(self._not_before, now + min(MAX_REST_S, max(MIN_REST_S, rest)))

    def _look(self, now: float, cpu: float) -> None:
        """Measure the load: CPU time of the loop without bulk lists, or the time of answering if larger."""
        others = cpu - self._spent
        busy = self._busy + (now - self._busy_since if self._answering else 0.0)
        if self._looked is None:
            self._looked = now, others, busy
            return
        since, others_then, busy_then = self._looked
        if now - since < _SPAN_S:
            return
        seen = min(1.0, max(0.0, others - others_then, busy - busy_then) / (now - since))
        self.load += (1 - math.exp((since - now) / _MEAN_S)) * (seen - self.load)
        self._looked = now, others, busy
