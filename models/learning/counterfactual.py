"""What a ranker in the shadow would have earned: estimates from the lists of the live one. Pure.

The policy that is judged is the candidate's list without random slots. A logged slot tells something of it
where both policies have the same item there (``match``), the more, the less likely the live policy was to
show it::

    w     = match / propensity                                       0 where the items differ
    SNIPS = sum(w * click) / sum(w)                                  Swaminathan and Joachims, NeurIPS 2015
    DR    = mean(q(candidate's item) + w * (click - q(shown item)))  Dudik, Langford and Li, ICML 2011

q is the score of the live ranker. Slots are taken one by one, as if a click depended on the item and its slot
alone (the item-position model of Li et al., KDD 2018). Where the live policy never explores, nothing but q
speaks of the other items: then neither estimate is evidence, and intervals say nothing of that.

Totals are whole numbers, so that they do not depend on the order of the examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

#: Totals of slots. The last three are in units of 1 / ``UNIT``.
NAMES: Final = ("shown", "matches", "clicks", "weight", "weighted_clicks", "robust")
UNIT: Final = 1_000_000
#: Weights are at most this: a slot of chance .0001 must not decide alone.
MOST_WEIGHT: Final = 100.0
#: Half the width of an interval, in standard deviations (95 %).
_Z: Final = 1.96


@dataclass(frozen=True, slots=True)
class Estimate:
    """Clicks for each slot, with the ends of the 95 % interval; NaN when nothing is known."""

    value: float
    low: float
    high: float


def slot_totals(match: Bool, propensity: F64, clicked: Bool, shown_q: F64, candidate_q: F64) -> I64:
    """Return what each slot adds to the totals, int64 ``(len(NAMES), n)``.

    Parameters
    ----------
    match
        Whether the candidate has the same item in the slot, ``(n,)``.
    propensity
        Chance of the item that was shown, given the slots above.
    clicked
        What happened.
    shown_q, candidate_q
        Chance of a click on the item that was shown and on the candidate's, as predicted; cut to 0..1.
    """
    weight = np.where(match, 1 / np.maximum(propensity, 1 / MOST_WEIGHT), 0.0)
    shown_q, candidate_q = np.clip(shown_q, 0.0, 1.0), np.clip(candidate_q, 0.0, 1.0)
    robust = candidate_q + weight * (clicked - shown_q)
    whole = [np.ones(len(match)), match, clicked]
    parts = [np.rint(v * UNIT) for v in (weight, weight * clicked, robust)]
    return np.array([*whole, *parts]).astype(np.int64)


def snips(totals: I64) -> Estimate:
    """Return the self-normalised estimate; ``totals`` is int64 ``(len(NAMES), clusters of users)``."""
    return _ratio(totals[NAMES.index("weighted_clicks")] / UNIT, totals[NAMES.index("weight")] / UNIT)


def doubly_robust(totals: I64) -> Estimate:
    """Return the doubly robust estimate; see ``snips``."""
    return _ratio(totals[NAMES.index("robust")] / UNIT, totals[NAMES.index("shown")].astype(np.float64))


def logged(totals: I64) -> Estimate:
    """Return what the live policy earned in the same slots; see ``snips``."""
    clicks, shown = (totals[NAMES.index(name)].astype(np.float64) for name in ("clicks", "shown"))
    return _ratio(clicks, shown)


def agreement(totals: I64) -> float:
    """Return the share of slots in which both have the same item; NaN without slots."""
    shown = int(totals[NAMES.index("shown")].sum())
    return float(totals[NAMES.index("matches")].sum()) / shown if shown else math.nan


def support(totals: I64) -> float:
    """Return the mean weight of a slot; NaN without slots.

    It is about 1 where the live policy may show every item that the candidate wants. It is below where it
    never does, or so seldom that ``MOST_WEIGHT`` cuts the weights: then the estimates are no evidence.
    """
    shown = int(totals[NAMES.index("shown")].sum())
    return float(totals[NAMES.index("weight")].sum()) / UNIT / shown if shown else math.nan


def _ratio(top: F64, bottom: F64) -> Estimate:
    """Return the ratio of two totals over clusters, with its linearised variance."""
    whole, k = float(bottom.sum()), int(np.count_nonzero(bottom))
    if k < 2 or whole <= 0:
        return Estimate(math.nan, math.nan, math.nan)
    value = float(top.sum()) / whole
    half = _Z * math.sqrt(float(((top - value * bottom) ** 2).sum()) * k / (k - 1)) / whole
    return Estimate(value, value - half, value + half)
