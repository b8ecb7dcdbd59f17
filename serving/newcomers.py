"""Click rates of the candidates for a user without history, from the user's country and age group."""

from __future__ import annotations

import numpy as np

from headrace.models.features.inputs import Candidates
from headrace.models.state.items import ItemState, place_key
from headrace.serving.pipeline.query import Query
from headrace.serving.rerank.beliefs import own_rates, rates_in
from headrace.serving.rerank.choices import F64
from headrace.streams.messages.ages import age_group


def is_new(query: Query) -> bool:
    """Return whether nothing is known of a user's taste: no click, no preference, no item to start from."""
    if query.anchors.items or query.request.surface == "related":
        return False
    if query.user is None:
        return True
    row = query.user[0]
    return not (row["n_clicks"] or row["preferred"].any() or row["followed"].any())


def rates(
    stats: ItemState, query: Query, c: Candidates, prior: F64, own: tuple[F64, F64], weight: float
) -> F64:
    """Return the click rates of the candidates for such a user, float64 ``(n,)``.

    Parameters
    ----------
    prior
        Rates that are believed before anything was counted at the item.
    own
        Clicks and shown slots of the items everywhere, ``(n,)`` each.
    weight
        So many shown slots count as much as the belief before them.
    """
    rate = own_rates(prior, *own, weight)
    places = [place_key(query.country, group) for group in dict.fromkeys((0, age_group(query.age)))]
    for place in places:
        if place:
            clicks, shown = stats.place_counts(c.items, place, query.now)
            rate = rates_in(rate, c.category, clicks, shown, weight)
    return np.asarray(rate)
