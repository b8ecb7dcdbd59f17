"""What is believed of click rates: of an item that was hardly shown, and for a user without history.

Rates are shrunk from the general to the special: all candidates, their category, their creator (compiled, in
``priors.pyx``), the item; then the country, the age group there. Each step trusts the one before it as much
as ``weight`` shown slots.
River's ``bandit.ThompsonSampling`` updates one arm with one reward at a time, and does not say how likely a
draw was. Lists need that (the propensity), and the counts are kept already.
"""

from __future__ import annotations

import numpy as np

from headrace.models.state.key_sets import numbered
from headrace.serving.rerank.choices import F64, U64

#: Clicks that are expected in a place before its own clicks of a category count as much as those.
_EXPECTED = 10.0
#: No item is believed to be clicked less or more often than this.
_LEAST, _MOST = 1e-4, 0.9


def _sums(ids: U64, counts: F64) -> F64:
    """Return for each item the sum of the counts of all items with its id, float64 ``(m,)``."""
    group = numbered(ids)
    out: F64 = np.bincount(group, counts).astype(np.float64)[group]
    return out


def own_rates(rate: F64, clicks: F64, shown: F64, weight: float) -> F64:
    """Return the rates after each item's own counts, float64 ``(m,)``; ``rate`` is believed before them."""
    moved: F64 = np.clip((np.minimum(clicks, shown) + weight * rate) / (shown + weight), _LEAST, _MOST)
    return moved


def rates_in(rate: F64, category: U64, clicks: F64, shown: F64, weight: float) -> F64:
    """Return the rates in a place, float64 ``(m,)``.

    First those of whole categories are moved, by how many clicks there were there and how many were expected
    (a Poisson rate with a gamma prior); then each item's.

    Parameters
    ----------
    rate
        What is believed without knowing the place.
    clicks, shown
        Of the items in the place.
    """
    clicks = np.minimum(clicks, shown)
    lift = (_sums(category, clicks) + _EXPECTED) / (_sums(category, shown * rate) + _EXPECTED)
    return own_rates(rate * lift, clicks, shown, weight)
