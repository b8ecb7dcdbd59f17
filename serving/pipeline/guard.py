"""Runs a part: times and counts it, and leaves it out while it fails or is too slow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from headrace.serving.pipeline.parts import NotReadyError, Part

P = TypeVar("P", bound=Part)
T = TypeVar("T")
log = logging.getLogger(__name__)

#: A part that was too slow, or failed, this many times one after another is left out for a while.
IN_A_ROW = 3
#: Left out for so long, s: the first time, and at most. The time doubles until the part does well again.
FIRST_REST_S, LONGEST_REST_S = 1.0, 60.0


@dataclass(slots=True)
class PartCounts:
    """What a part did since the start of the process.

    Attributes
    ----------
    calls, failed, slow, left_out
        Requests that it ran for; that it failed for; that it took too long for; that went without it.
    seconds
        Time it took, s.
    given, kept
        Items a filter looked at, and let through. For a source ``kept`` is what it proposed.
    shown
        Items of a source that came onto a list.
    """

    calls: int = 0
    failed: int = 0
    slow: int = 0
    left_out: int = 0
    seconds: float = 0.0
    given: int = 0
    kept: int = 0
    shown: int = 0


class Guarded(Generic[P]):
    """A part with its counts.

    Parameters
    ----------
    part
        The part.
    limit_s
        Longest time of one call, s. A call is not interrupted: its result is used, and a part that needs
        longer ``IN_A_ROW`` times is left out for a while, unless it is ``required``: without a required
        filter nothing is shown, so that it is asked every time.
    clock
        Monotonic seconds.

    Attributes
    ----------
    counts
        What it did.
    label
        ``kind:name``.
    """

    def __init__(self, part: P, limit_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.part = part
        self.label = f"{part.kind}:{part.name}"
        self.counts = PartCounts()
        self._limit_s = limit_s
        self._clock = clock
        self._bad = 0
        self._required = bool(getattr(part, "required", False))
        self._rest_s = FIRST_REST_S
        self._until = self._quiet_until = float("-inf")

    def run(self, call: Callable[[P], T], left_out: list[str]) -> T | None:
        """Call the part; return None and note it in ``left_out`` when it failed or is left out now."""
        started = self._clock()
        if started < self._until:
            self.skip(left_out)
            return None
        self.counts.calls += 1
        try:
            result = call(self.part)
        except NotReadyError:
            self.skip(left_out)
            return None
        except Exception:
            self.counts.failed += 1
            if started >= self._quiet_until:  # one that cannot be left out may fail at every request
                log.exception("%s failed", self.label, extra={"action": "part_failed", "part": self.label})
                self._quiet_until = started + FIRST_REST_S if self._bad >= IN_A_ROW else started
            self._went_wrong()
            left_out.append(self.label)
            return None
        took = self._clock() - started
        self.counts.seconds += took
        if took > self._limit_s:
            self.counts.slow += 1
            self._went_wrong()
        else:
            self._bad, self._rest_s = 0, FIRST_REST_S
        return result

    def skip(self, left_out: list[str]) -> None:
        """Count and note that a request goes without the part."""
        self.counts.left_out += 1
        left_out.append(self.label)

    def _went_wrong(self) -> None:
        self._bad += 1
        if self._bad >= IN_A_ROW and not self._required:
            self._until = self._clock() + self._rest_s
            log.warning(
                "%s failed or took more than %g ms, %d times running: left out for %g s",
                self.label,
                1000 * self._limit_s,
                self._bad,
                self._rest_s,
                extra={"action": "part_left_out", "part": self.label},
            )
            self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
