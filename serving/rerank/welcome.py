"""The first slots of a user without history: Thompson sampling among the best items of other categories.

What new users click changes what is believed of items and categories, in their country and age group, and so
what the next new user is shown first.
"""

from __future__ import annotations

import numpy as np

from headrace.serving.rerank.choices import Choices, Mask
from headrace.serving.rerank.exploration import Lottery
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.thompson import largest_draw

#: So many items are in the lottery, the best by score.
_MOST = 5
#: The belief about an item that was not shown counts as so many shown slots: with less, lists would be mostly
#: trials of such items.
_UNSHOWN = 100.0


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
    other = ~np.isin(choices.category[places], choices.category[used])
    if other.any():
        places = places[other]
    if not len(places):
        return None
    places = places[:_MOST]
    rate = choices.guess[places]
    weight = np.minimum(choices.shown[places] + _UNSHOWN, rules.welcome_shown)
    return Lottery(places, lambda: largest_draw(rate * weight, (1 - rate) * weight))
