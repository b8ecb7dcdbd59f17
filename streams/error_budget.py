"""An objective over a window of time, and what is left of its error budget. Pure.

With an objective of 0.99, one probe in a hundred may be bad. These are the error budget. 1 is left of it
while none was bad, 0 when as many were bad as may be, and less than 0 after that.
"""

from __future__ import annotations

from collections import deque

#: The window moves in so many steps.
STEPS = 96


class ErrorBudget:
    """Good and bad probes of the last while.

    Parameters
    ----------
    objective
        Share of the probes that must be good, between 0 and 1, both excluded.
    window_s
        Length of the window, s.
    """

    def __init__(self, objective: float, window_s: float) -> None:
        self._objective, self._step_s = objective, window_s / STEPS
        self._steps: deque[tuple[int, int, int]] = deque()  # number of the step, good ones, all

    def note(self, now_s: float, *, good: bool) -> None:
        """Count a probe that ended now; ``now_s`` never goes back."""
        step = int(now_s / self._step_s)
        last = self._steps.pop() if self._steps and self._steps[-1][0] == step else (step, 0, 0)
        self._steps.append((step, last[1] + good, last[2] + 1))
        self._forget(step)

    def good(self, now_s: float) -> float | None:
        """Return the share of good probes in the window, None without any."""
        self._forget(int(now_s / self._step_s))
        every = sum(count for _, _, count in self._steps)
        return sum(good for _, good, _ in self._steps) / every if every else None

    def left(self, now_s: float) -> float | None:
        """Return the share of the error budget that is left, None without a probe in the window."""
        good = self.good(now_s)
        return None if good is None else 1 - (1 - good) / (1 - self._objective)

    def _forget(self, step: int) -> None:
        while self._steps and self._steps[0][0] <= step - STEPS:
            self._steps.popleft()
