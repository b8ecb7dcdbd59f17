"""Features of the item with the session: clicked after the session's clicks, or with them; content."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.features.relative import SMOOTHING, ranks, share
from headrace.models.state import items as item_state

F32 = npt.NDArray[np.float32]


def fill_pairs(put: dict[str, F32], c: Candidates) -> None:
    """Fill how strongly each item follows the session's clicks; ``fill_item`` must have run before."""
    put["next_score"][:] = np.log1p(c.next_score)
    put["next_share"][:] = c.next_share
    put["next_share_2"][:] = c.next_share_2
    if c.next_share_all is not None:
        put["next_share_all"][:] = c.next_share_all
    if c.next_recent is not None:
        put["next_recent"][:] = c.next_recent
    if c.together_recent is not None:
        put["together_recent"][:] = share(c.together_recent)
    put["next_total"][:] = np.log1p(c.next_total)
    popular = put["item_click_share_1h"]
    put["next_smoothed"][:] = (c.next_score + SMOOTHING * popular) / (np.float32(c.next_total) + SMOOTHING)
    put["next_rank"][:] = ranks(c.next_score)
    put["together_score"][:] = c.together
    put["together_share"][:] = share(c.together)
    # Popular items are seen together with all others, so their strength is divided by their own clicks.
    put["together_lift"][:] = c.together / np.sqrt(item_state.COUNTS.totals(c.stats, "click") + 10.0)
    put["together_rank"][:] = ranks(c.together)


def fill_content(put: dict[str, F32], c: Candidates, ctx: RequestContext) -> None:
    """Fill the similarity of each item's content to the user's vector and to the last click's."""
    put["vector_user"][:] = c.vectors @ ctx.user_vector
    put["vector_last"][:] = c.vectors @ ctx.last_vector
    if c.language is not None and ctx.language:
        put["same_language"][:] = np.where(c.language == ctx.language, 1, -1) * (c.language != 0)
    if ctx.last_category:
        put["same_category_as_last"][:] = c.category == ctx.last_category
    if ctx.last_creator:
        put["same_creator_as_last"][:] = c.creator == ctx.last_creator


def fill_prior(put: dict[str, F32]) -> None:
    """Fill the sum of pairs and clicks, both of late; the other features of them must be filled before.

    Trees cannot build such a sum well, and are better when it is one of their features. Clicks are those of
    the country, close to all clicks where it has few, and those of the last quarter of an hour.
    """
    pairs = put["next_recent"] + put["together_recent"]
    prior = pairs + put["country_smoothed_1h"] + put["item_click_share_15m"]
    put["prior_lately"][:] = prior
    put["prior_lately_rank"][:] = ranks(prior)
