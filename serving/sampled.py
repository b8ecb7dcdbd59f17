"""Work that a serving process does for a small share of its replies, to look at what it does: in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

#: The thread rests so many times as long as it worked: so it takes at most 2 % of a core.
REST = 50.0


class Sampled(Generic[T]):
    """Decides when it is time for the work, and does it in a thread of its own.

    One thread calls it.

    Parameters
    ----------
    name
        Of the thread.
    every, pause_s
        The work is done for one call in ``every``, and at most once in ``pause_s`` seconds.
    clock
        Monotonic seconds.
    take
        Called with every result, in the thread that calls ``due`` or ``settle``.
    """

    def __init__(
        self, name: str, every: int, pause_s: float, clock: Callable[[], float], take: Callable[[T], None]
    ) -> None:
        self._every, self._pause_s, self._clock, self._take = every, pause_s, clock, take
        self._calls, self._next = 0, float("-inf")
        self._thread = ThreadPoolExecutor(1, name)
        self._running: Future[tuple[T, float]] | None = None

    def due(self) -> bool:
        """Count a call, take the result of work that is done, and return whether to begin with more."""
        self._calls += 1
        if (self._calls - 1) % self._every:
            return False
        self.settle(wait=False)
        return self._running is None and self._clock() >= self._next

    def begin(self, work: Callable[[], T]) -> None:
        """Do some work in the thread."""
        self._next = self._clock() + self._pause_s
        self._running = self._thread.submit(_timed, work)

    def settle(self, *, wait: bool = True) -> None:
        """Take the result of work that is done; an error of the work is raised here."""
        if self._running is None or not (wait or self._running.done()):
            return
        done, self._running = self._running, None
        result, seconds = done.result()
        self._next = max(self._next, self._clock() + REST * seconds)
        self._take(result)

    def close(self) -> None:
        """End the thread, after the work that is done."""
        self._thread.shutdown(cancel_futures=True)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return the result, and the CPU time of this thread, s."""
    began = time.thread_time()
    return work(), time.thread_time() - began
