"""Features of the taste: how much more often than others a user is likely to click a category."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.features.history import TIMES
from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.state.key_sets import sums_among

F32 = npt.NDArray[np.float32]

_TIMES = np.float32(TIMES)
#: Before anything is known, a user likes one category, and not so many others.
_OTHERS = np.float32(15)
_USUAL = (1 + _OTHERS) / (_TIMES + _OTHERS)
#: What they become more when the user names the category as preferred, and when they name only others.
_NAMED, _NOT_NAMED = np.float32(3), np.float32(-1.5)


def fill_lifts(put: dict[str, F32], c: Candidates, ctx: RequestContext, *, names: bool) -> None:
    """Fill the lifts of each candidate's category; ``fill_item`` and ``fill_taste`` must have run before.

    ``taste_prior`` is the sum of the lift and the item's click rate, both logarithms: linear models need it.

    Parameters
    ----------
    names
        The user names preferred categories.
    """
    odds = np.zeros((2, len(c)), np.float32)
    if ctx.history is not None:
        evidence = ctx.history.evidence
        parts = np.concatenate([evidence, np.maximum(evidence[:1], 0)])
        long, now, clicked = sums_among(c.category, ctx.history.category, parts)
        passed = np.maximum(clicked - long, 0)
        put["category_clicked"][:], put["category_passed"][:] = np.log1p(clicked), np.log1p(passed)
        put["category_rate"][:] = put["category_clicked"] - put["category_passed"]
        odds = np.stack([long, now])
    if names:
        odds[0] += np.where(put["category_preferred"] > 0, _NAMED, _NOT_NAMED) * (c.category != 0)
    lift = _lift(odds)
    put["category_lift"][:], put["category_lift_now"][:] = lift
    put["taste_prior"][:] = np.log(put["item_ctr_24h"]) + lift[0]


def _lift(odds: F32) -> F32:
    """Return the log of the expected click rate, against that of a category nothing is known of.

    Liked categories are clicked ``TIMES`` as often as others. ``odds`` are the log-odds to be liked that were
    added to those at the beginning; evidence stays within some dozens (``history.py``).
    """
    others = np.exp(-odds) * _OTHERS
    out: F32 = np.log((_TIMES + others) / (1 + others) * _USUAL)
    return out
