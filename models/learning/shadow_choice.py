"""Which of several candidates in the shadow goes further, and which one goes. Pure: counts in, a choice out.

What a candidate would have earned is estimated from the lists of the live ranker (``counterfactual``). That
is evidence only where the live policy may show every item that the candidate wants: then the mean weight of
its slots is about 1 (``counterfactual.support``). So

- a candidate with evidence that it is surely worse goes: the always-valid interval of its doubly robust
  estimate, against what was clicked in the same slots, is below 0;
- of those that were long enough in the shadow, the one with the best estimate goes further;
- where there is no evidence about any of them, the newest does: it has learnt from the most examples.

The users of the next stages decide by themselves: what the shadow says is not counted there again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.counterfactual import I64, NAMES, UNIT, support
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.sequential import Difference, paired

#: The mean weight of a candidate's slots may be so far from 1.
_MOST_OFF: Final = 0.2


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a candidate in the shadow.

    Attributes
    ----------
    version
        Its version.
    since_ts
        Since when it is there, ms.
    support
        Mean weight of its slots; NaN without slots.
    difference
        Its doubly robust estimate of clicks against what was clicked in the same slots.
    """

    version: str
    since_ts: int
    support: float
    difference: Difference

    @property
    def evidence(self) -> bool:
        """Whether the estimate says anything of it."""
        return is_evidence(self.support) and math.isfinite(self.difference.low)


def is_evidence(support: float) -> bool:
    """Return whether estimates from slots of this mean weight say anything of a candidate."""
    return abs(support - 1) <= _MOST_OFF


def shadow_difference(totals: I64, alpha: float) -> Difference:
    """Return the difference of a candidate's estimate and the clicks; see ``ArmCounts.shadows``."""
    shown, clicks, robust = (totals[NAMES.index(name)] for name in ("shown", "clicks", "robust"))
    return paired(shown, clicks, robust / UNIT, alpha)


def standings(pointers: Pointers, counts: ArmCounts, alpha: float) -> list[Standing]:
    """Return what is known of each candidate, in their order; ``alpha`` is the chance of a wrong interval."""
    none = np.zeros((len(NAMES), 1), np.int64)
    out = []
    for version in pointers.candidates():
        totals = counts.shadows.get(version, none)
        found = shadow_difference(totals, alpha)
        out.append(Standing(version, pointers.since(version), support(totals), found))
    return out


def surely_worse(found: list[Standing]) -> Standing | None:
    """Return the first candidate of which there is evidence that it is surely worse."""
    return next((one for one in found if one.evidence and one.difference.high < 0), None)


def best(found: list[Standing]) -> Standing:
    """Return the candidate that goes further, of at least one."""
    known = [one for one in found if one.evidence]
    if known:
        return max(known, key=lambda one: one.difference.value)
    return max(reversed(found), key=lambda one: one.since_ts)  # of the same time, the one that came last
