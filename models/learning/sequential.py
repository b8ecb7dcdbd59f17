"""An always-valid comparison of two arms, clustered by user: looking at any time does not spoil it. Pure.

The interval is the confidence sequence of Robbins' normal mixture, in its asymptotic form: Waudby-Smith,
Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences"
(Annals of Statistics 2024), which is the mixture SPRT of Johari, Pekelis and Walsh ("Always valid inference",
2015) turned into an interval. With difference d, its variance V and the width tau of the mixture::

    d +- sqrt(2 V (1 + V / tau^2) log(sqrt(1 + tau^2 / V) / alpha))

It holds at all times together with probability 1 - alpha, for both ends. V comes from totals of clusters:
users are put into ``CLUSTERS`` of them by a hash, and all that a user does is in one. So it does not matter
how much the examples of a user have in common (the linearised variance of a ratio: Deng, Knoblich and Lu,
KDD 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

#: Clusters of users in each arm. 128: the variance is known to 13 %, and a record has 1 kB for each total.
CLUSTERS = 128
#: Width of the mixture, as a share of the live arm's rate: intervals are tightest for such differences.
TAU = 0.1
#: With fewer clusters that have an example in either arm, nothing is known.
_LEAST_CLUSTERS = 32


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better the candidate's rate is, as a share of the live arm's rate.

    Attributes
    ----------
    live, candidate
        The rates, total of the outcome / number of examples.
    value
        candidate / live - 1; ``low`` and ``high`` are the ends of its interval. NaN and infinite while too
        little is known.
    """

    live: float
    candidate: float
    value: float
    low: float
    high: float


def difference(
    live_n: I64, live_total: I64, candidate_n: I64, candidate_total: I64, alpha: float
) -> Difference:
    """Return the difference of two arms.

    Parameters
    ----------
    live_n, candidate_n
        Examples by cluster, int64 ``(CLUSTERS,)``.
    live_total, candidate_total
        Totals of the outcome by cluster.
    alpha
        Chance that the interval is ever wrong, at either end.
    """
    if min(np.count_nonzero(live_n), np.count_nonzero(candidate_n)) < _LEAST_CLUSTERS:
        return Difference(math.nan, math.nan, math.nan, -math.inf, math.inf)
    live, live_var = _ratio(live_n, live_total)
    candidate, candidate_var = _ratio(candidate_n, candidate_total)
    variance = live_var + candidate_var
    if live <= 0 or variance <= 0:
        return Difference(live, candidate, math.nan, -math.inf, math.inf)
    share = variance / live**2
    value = candidate / live - 1
    half = half_width(share, TAU, alpha)
    return Difference(live, candidate, value, value - half, value + half)


def paired(n: I64, live_total: I64, candidate_total: F64, alpha: float) -> Difference:
    """Return the difference of two totals of the same examples; see ``difference``.

    Parameters
    ----------
    n
        Examples by cluster, int64 ``(CLUSTERS,)``.
    live_total, candidate_total
        What happened, and what would have with the candidate, by cluster.
    """
    if np.count_nonzero(n) < _LEAST_CLUSTERS:
        return Difference(math.nan, math.nan, math.nan, -math.inf, math.inf)
    live, _ = _ratio(n, live_total)
    more, variance = _ratio(n, candidate_total - live_total)
    if live <= 0 or variance <= 0:
        return Difference(live, live + more, math.nan, -math.inf, math.inf)
    half = half_width(variance / live**2, TAU, alpha)
    return Difference(live, live + more, more / live, more / live - half, more / live + half)


def half_width(variance: float, tau: float, alpha: float) -> float:
    """Return half the width of the interval; see the head of this module."""
    ratio = variance / tau**2
    return math.sqrt(2 * variance * (1 + ratio) * math.log(math.sqrt(1 + 1 / ratio) / alpha))


def _ratio(n: I64, total: I64 | F64) -> tuple[float, float]:
    """Return total / n over all clusters, and the variance of that ratio."""
    every, k = float(n.sum()), len(n)
    rate = float(total.sum()) / every
    residual = total - rate * n
    return rate, float((residual**2).sum()) * k / (k - 1) / every**2
