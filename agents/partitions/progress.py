"""How far a topic was read, as a time, and a clock that no step of the machine's clock moves. Pure."""

from __future__ import annotations

#: The time of a topic moves without records only when it was read to its end and nothing came for this long.
IDLE_MS = 1000


class SteadyClock:
    """The time of day, without steps: it never goes back, and never more than twice as fast as time passes.

        machine's clock   ...59:58  59:59 | 00:59:59 (a step of an hour) ... 00:00:02 (set right again)
        this clock        ...59:58  59:59 | 00:00:01                     ... 00:00:02

    While the machine's clock is behind, this clock runs at half the speed until both agree.

    Parameters
    ----------
    wall_ms
        Time of day, ms since the epoch.
    monotonic
        Seconds that never decrease.
    """

    def __init__(self, wall_ms: int, monotonic: float) -> None:
        self._now, self._at = float(wall_ms), monotonic

    def now(self, wall_ms: int, monotonic: float) -> int:
        """Return the time of day, ms since the epoch; the arguments as above."""
        passed = max(0.0, monotonic - self._at) * 1000
        self._at = monotonic
        self._now += min(max(wall_ms - self._now, passed / 2), passed * 2)
        return round(self._now)


class Progress:
    """The time up to which one topic of a partition was read, in record timestamps (ms).

    Parameters
    ----------
    now
        Present time, ms since the epoch.

    Attributes
    ----------
    read_to
        Every record with an earlier timestamp was read.
    floor
        A record that is read now was written after this time, whatever its timestamp: its topic had been
        read to the end by then.
    """

    def __init__(self, now: int) -> None:
        self.read_to = self.floor = 0
        self._heard = now

    def read(self, last_ts: int, now: int) -> None:
        """Note that records up to ``last_ts`` were read; a timestamp in the future counts as ``now``."""
        self.read_to = max(self.read_to, min(last_ts, now))
        self._heard = now

    def idle(self, now: int, at_end: bool) -> None:
        """Note whether every record was read.

        Moves the time of a topic that was read to its end and has been without records for ``IDLE_MS``.
        """
        if not at_end:
            return
        self.floor = max(self.floor, now - IDLE_MS)
        if now - self._heard > IDLE_MS:
            self.read_to = max(self.read_to, now - IDLE_MS)
