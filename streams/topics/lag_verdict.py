"""Judges a partition by a window of looks at its committed offset and its end. Pure.

The rules follow those of Burrow (LinkedIn), where users complained of them they differ:

======== =============================================================================================
verdict  when
======== =============================================================================================
OK       nothing is left to read; or what is left is younger than a record lawfully waits; or commits
         move and the lag does not grow over the whole window
?        not enough was seen to tell
WARN     commits move, but the lag grows over the whole window
REWIND   the committed offset went back
STALL    the committed offset has not moved for long while records waited, and a member has the partition
STOP     the same, and no member has the partition: nobody commits
======== =============================================================================================

A broker does not tell of commits that repeat an offset. So a member that lives and has the partition takes
their place: it tells STALL from STOP.

One look without lag in the window hides nothing: only the newest look says that nothing is left to read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

#: A lag grows when so many looks at least agree, and over so long, s, however often somebody looks.
FEWEST_GROWING, GROWING_S = 4, 3.0
#: A window keeps so many looks, evenly, when there are more.
MOST_POINTS = 1024


class Verdict(StrEnum):
    """What is to be said of a partition or of a group, from good to bad."""

    OK = "OK"
    UNKNOWN = "?"
    WARN = "WARN"
    REWIND = "REWIND"
    STALL = "STALL"
    STOP = "STOP"

    @property
    def is_failure(self) -> bool:
        """Whether somebody has to act: worse than WARN."""
        return self in (Verdict.REWIND, Verdict.STALL, Verdict.STOP)


_ORDER = list(Verdict)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst verdict: a group is as bad as its worst partition. OK when there are none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.OK)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a healthy agent commits.

    Attributes
    ----------
    wait_s
        Longest time from the writing of a record to its commit.
    quiet_s
        Longest time between two commits while records wait for one.
    """

    wait_s: float
    quiet_s: float


@dataclass(frozen=True, slots=True)
class Point:
    """One look at a partition.

    Attributes
    ----------
    at_s
        When, s since the epoch.
    committed
        Committed offset, -1 for none.
    end
        Offset after the last record.
    records
        Records that are not committed, 0 when the rest of the log has none. What lies before the first
        offset that exists does not count.
    seconds
        Age of the first of them, None when it is not known.
    held
        Whether a member of the group has the partition; None when that is not known (a rebalance).
    """

    at_s: float
    committed: int
    end: int
    records: int
    seconds: float | None = None
    held: bool | None = None

    @property
    def position(self) -> int:
        """The committed offset; a group that has committed nothing is at the beginning."""
        return max(0, self.committed)


class Window:
    """The looks at one partition during the last ``span_s`` seconds, oldest first."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._points = deque[Point]()

    @property
    def points(self) -> Sequence[Point]:
        """The looks."""
        return self._points

    def add(self, point: Point) -> None:
        """Add a look. One that is older, or has a lower end (another log), begins a new window."""
        if self._points and (point.at_s < self._points[-1].at_s or point.end < self._points[-1].end):
            self._points.clear()
        if len(self._points) > 1 and self._says_little(point):
            self._points.pop()
        self._points.append(point)
        while self._points[0].at_s < point.at_s - self._span_s:
            self._points.popleft()

    def _says_little(self, point: Point) -> bool:
        """Return whether the newest look, when ``point`` follows, is too close to the one before to be kept.

        One that went back is kept, and one before that goes back.
        """
        before, last = self._points[-2], self._points[-1]
        close = last.at_s - before.at_s < self._span_s / MOST_POINTS
        return close and before.position <= last.position <= point.position


def judge(points: Sequence[Point], pace: Pace) -> Verdict:
    """Return the verdict of a window: looks at one log, oldest first, at least one."""
    newest = points[-1]
    if _went_back(points):
        return Verdict.REWIND
    if not is_late(newest, pace):
        return Verdict.OK
    if stuck_s(points) >= pace.quiet_s:
        return Verdict.STALL if _is_held(points) else Verdict.STOP
    if _moved(points):
        return Verdict.WARN if _grows(points) else Verdict.OK
    return Verdict.UNKNOWN


def is_late(point: Point, pace: Pace) -> bool:
    """Return whether records are left that waited for longer than they lawfully do, or unknown long."""
    return point.records > 0 and (point.seconds is None or point.seconds > pace.wait_s)


def stuck_s(points: Sequence[Point]) -> float:
    """Return for how long, s, records have waited while the committed offset stayed where it is.

    From the first look with the offset of today and with lag; looks without lag in between change nothing.
    """
    newest = points[-1]
    since = newest.at_s
    for point in reversed(points):
        if point.position != newest.position:
            break
        if point.records:
            since = point.at_s
    return newest.at_s - since


def trend(points: Sequence[Point]) -> float | None:
    """Return by how many records a second the lag grows (below 0: shrinks), None after one look.

    From the mean of the earlier half of the window to that of the later half: commits come in steps, so two
    looks alone say little.
    """
    early, late = _halves(points)
    if not early:
        return None
    seconds = _mean([p.at_s for p in late]) - _mean([p.at_s for p in early])
    records = _mean([p.records for p in late]) - _mean([p.records for p in early])
    return records / seconds if seconds > 0 else None


def _moved(points: Sequence[Point]) -> bool:
    return any(p.position != points[0].position for p in points)


def _went_back(points: Sequence[Point]) -> bool:
    return any(later.position < before.position for before, later in pairwise(points))


def _is_held(points: Sequence[Point]) -> bool:
    """Return what was known last: during a rebalance nobody can tell."""
    return next((p.held for p in reversed(points) if p.held is not None), False)


def _grows(points: Sequence[Point]) -> bool:
    """Return whether every look of the later half has more lag than any of the earlier half.

    One look without lag in the later half does not count. Commits in steps make the lag go up and down: that
    is no growth, because both halves have the same highest and lowest.
    """
    if len(points) < FEWEST_GROWING or points[-1].at_s - points[0].at_s < GROWING_S:
        return False
    early, late = _halves(points)
    lags = sorted(p.records for p in late)
    if len(lags) > 2 and lags[0] == 0:
        del lags[0]
    return lags[0] > max(p.records for p in early)


def _halves(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    all_points = list(points)
    half = len(all_points) // 2
    return all_points[:half], all_points[half:]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
