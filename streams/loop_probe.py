"""Measures how late the timers of the event loop are: what holds the loop delays everything by as much.

A thread that may run and gets no CPU is late, too, but nothing holds its loop. So the time for which it
waited for a CPU is told apart, where the system tells it (Linux).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from headrace.streams.timer import Timer

#: Time between two timers, s. Whatever holds the loop for longer than this is seen.
EVERY_S = 0.02
_NS = 1e-9


class CpuWait:
    """How long the thread that makes this has waited for a CPU.

    It reads the second number of ``/proc/self/task/ID/schedstat`` (Documentation/scheduler/sched-stats of
    Linux). A system without that file says nothing.
    """

    def __init__(self, proc: str = "/proc") -> None:
        try:
            path = f"{proc}/self/task/{threading.get_native_id()}/schedstat"
            self._file: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = None
        self._before = self._read() or 0.0

    def since(self) -> float | None:
        """Return the wait since the last call, or since it was made, s; None where it is not known."""
        now = self._read()
        if now is None:
            return None
        before, self._before = self._before, now
        return now - before

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self) -> float | None:
        if self._file is None:
            return None
        try:
            return int(os.pread(self._file, 100, 0).split()[1]) * _NS
        except (OSError, ValueError, IndexError):
            return None


class LoopProbe(Timer):
    """Sets a timer again and again.

    Parameters
    ----------
    late
        Called with the lateness of each, s, and for how long the loop's thread waited for a CPU since the
        last one, s; None where that is not known.
    """

    def __init__(self, late: Callable[[float, float | None], None], **kwargs: Any) -> None:
        self._late = late
        self._wait: CpuWait | None = None
        super().__init__(EVERY_S, **kwargs)

    async def on_start(self) -> None:
        """Begin, in the thread of the loop."""
        self._wait = CpuWait()
        await super().on_start()

    async def on_stop(self) -> None:
        """End."""
        await super().on_stop()
        if self._wait is not None:
            self._wait.close()

    def ring(self, late_s: float) -> None:
        """Tell how late it is."""
        self._late(late_s, None if self._wait is None else self._wait.since())
