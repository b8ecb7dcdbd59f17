"""The first slots of a user without history: Thompson sampling among the best items of every category.

What new users click changes what is believed of items and categories, in their country and age group, and so
what the next new user is shown first.
"""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import Choices, Mask
from headrace.serving.rerank.exploration import Lottery
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.thompson import largest_draw

#: So many items of a category are in the lottery, the best by score, and so many of all.
_EACH, _MOST = 3, 32


def welcome(choices: Choices, allowed: Mask, used: Mask, rules: Rules) -> Lottery | None:
    """Return the lottery of a slot, None when no candidate may be in it.

    Parameters
    ----------
    choices
        The candidates, the best by score first, with a ``guess``.
    allowed
        Which of the first ones may be in the slot, bool ``(w,)``.
    used
        Which of all are on the list, bool ``(m,)``. Their categories are left out, while there are others.
    rules
        For the weight of what is known.
    """
    places = np.flatnonzero(allowed)
    category = choices.category[places]
    other = ~np.isin(category, choices.category[used])
    if other.any():
        places, category = places[other], category[other]
    if not len(places):
        return None
    order = np.argsort(category, kind="stable")
    begins = np.flatnonzero(np.diff(category[order], prepend=category[order[0]] + np.uint64(1)))
    rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    places = np.sort(places[order[rank < _EACH]])[:_MOST]
    known = choices.shown[places] + rules.prior_clicks + rules.prior_misses
    rate, weight = choices.guess[places], np.minimum(known, rules.welcome_shown)
    return Lottery(places, largest_draw(rate * weight, (1 - rate) * weight))
