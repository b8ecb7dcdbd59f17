"""Whether a user clicks the item in a slot: one formula for our lists and for the popular list.

    p(click | user, item, position) = examination(position)
                                      * sigmoid(taste + quality + freshness - fatigue - HURDLE)

taste(user, item) = category + liked tags + liked creator + what the user's country likes. Fatigue grows with
every look at the item without a click (``fatigue.py``); tastes move (``Audience.drift``). The recommender
sees none of these numbers, only the resulting events.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.demo.simulation.audience import Audience
from headrace.demo.simulation.catalog import SimulatedCatalog
from headrace.demo.simulation.vocabulary import TAGS
from headrace.streams.settings import HOUR_MS

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Log-odds subtracted from every slot; with it a random list is clicked in about 4 % of its slots.
HURDLE = 3.4
LIKED_TAG, LIKED_CREATOR = 0.5, 1.0
FRESHNESS, FRESH_FOR_MS = 0.7, 8 * HOUR_MS


def examination(position: npt.NDArray[np.integer]) -> F64:
    """Return the chance that a slot is looked at, float64, the shape of ``position`` (0 = top)."""
    out: F64 = 0.3 + 0.7 * np.exp(-np.asarray(position, np.float64) / 8)
    return out


def sigmoid(x: npt.NDArray[np.floating]) -> F64:
    """Return the logistic function, float64."""
    out: F64 = 1 / (1 + np.exp(-np.asarray(x, np.float64)))
    return out


def taste(audience: Audience, catalog: SimulatedCatalog, user: int, items: I64) -> F64:
    """Return how much ``user`` likes ``items`` ``(n,)``, in log-odds, float64 ``(n,)``."""
    category = catalog.category[items]
    liked = np.zeros(len(TAGS), np.int8)
    liked[audience.tags[user]] = 1
    tags = liked[catalog.tags[items]].sum(1)
    creator = (catalog.creator[items][:, None] == audience.creators[user][None, :]).any(1)
    out: F64 = (
        audience.category[user, category].astype(np.float64)
        + audience.abroad[int(audience.country[user]), category]
        + LIKED_TAG * tags
        + LIKED_CREATOR * creator
    )
    return out


def appeal(
    audience: Audience,
    catalog: SimulatedCatalog,
    user: int,
    items: I64,
    now: int,
    fatigue: F64 | float = 0.0,
) -> F64:
    """Return the chance of a click on each item once it is looked at, float64 ``(n,)``.

    ``fatigue`` are the log-odds that each item has lost with the user, ``(n,)``.
    """
    age = np.maximum(now - catalog.published[items], 0)
    fresh = FRESHNESS * np.exp(-age / FRESH_FOR_MS)
    return sigmoid(taste(audience, catalog, user, items) + catalog.quality[items] + fresh - fatigue - HURDLE)
