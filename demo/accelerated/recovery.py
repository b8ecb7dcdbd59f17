"""How soon lists are good again after all tastes have moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: What was usual is the mean over so many steps before the shift.
BEFORE = 3
#: The worst step is looked for among so many after it.
WORST = 3


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a shift of tastes cost, as shares of the best possible clicks.

    Attributes
    ----------
    before, worst
        Before the shift, and at the worst after it.
    half_s
        Time from the shift until half of the loss was recovered, s; None: never.
    """

    before: float
    worst: float
    half_s: float | None


def recovery(shares: Sequence[float], step_s: float, shift_s: float) -> Recovery | None:
    """Return what a shift cost; None when there are too few steps around it, or nothing was lost.

    Half of the loss is recovered with the first step, the worst one or a later one, that is half-way back
    together with the next step, so that one lucky step does not count. It counts from its end.

    Parameters
    ----------
    shares
        Share of the best possible clicks in each step of a run.
    step_s, shift_s
        Length of a step, and time of the shift since the start, s; the shift is at the beginning of a step.
    """
    first = round(shift_s / step_s)
    after = list(shares[first:])
    if first < BEFORE or len(after) <= WORST:
        return None
    before = sum(shares[first - BEFORE : first]) / BEFORE
    worst = min(after[:WORST])
    if worst >= before:
        return None
    half = (before + worst) / 2
    for k in range(after.index(worst), len(after) - 1):
        if after[k] >= half and after[k + 1] >= half:
            return Recovery(before, worst, (k + 1) * step_s)
    return Recovery(before, worst, None)
