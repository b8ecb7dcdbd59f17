"""What is believed of click rates: of an item that was hardly shown, and for a user without history.

Rates are shrunk from the general to the special: all candidates, their category, their creator, the item;
then the country, the age group there. Each step trusts the one before it as much as ``weight`` shown slots.
River's ``bandit.ThompsonSampling`` updates one arm with one reward at a time, and does not say how likely a
draw was. Lists need that (the propensity), and the counts are kept already.
"""

from __future__ import annotations

import numpy as np

from headrace.models.state.key_sets import numbered
from headrace.serving.rerank.choices import F64, I64, U64

#: Clicks that are expected in a place before its own clicks of a category count as much as those.
_EXPECTED = 10.0
#: No item is believed to be clicked less or more often than this.
_LEAST, _MOST = 1e-4, 0.9


def prior_rates(
    clicks: F64, shown: F64, category: U64, creator: U64, places: I64, begin: tuple[float, float]
) -> F64:
    """Return the click rates of some items as their categories and creators suggest them, float64 ``(k,)``.

    Parameters
    ----------
    clicks, shown
        Of each item, ``(m,)``, not negative. Its own do not count for it, only those of the others.
    category, creator
        Hashed ids, uint64 ``(m,)``; 0: none, which suggests nothing.
    places
        Which items are asked for, int64 ``(k,)``.
    begin
        The belief with which everything begins: clicks, and slots without one.
    """
    weight = sum(begin)
    clicks = np.minimum(clicks, shown)  # clicks that no list made say nothing about rates
    own_clicks, own_shown = clicks[places], shown[places]
    rate: F64 = (clicks.sum() - own_clicks + begin[0]) / (shown.sum() - own_shown + weight)
    for ids in (category, creator):
        own, group = ids[places], numbered(ids)
        others_clicks: F64 = np.bincount(group, clicks)[group[places]] - own_clicks
        others_shown: F64 = np.bincount(group, shown)[group[places]] - own_shown
        rate = np.where(own != 0, (others_clicks + weight * rate) / (others_shown + weight), rate)
    return rate


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
