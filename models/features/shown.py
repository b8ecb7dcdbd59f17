"""Features of what the user was shown: how often, and how long ago."""

from __future__ import annotations

import numpy as np

from headrace.models.features.columns import Columns
from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.features.spec import SPEC
from headrace.models.state.key_sets import sums_among

_TIMES, _IDLE_MIN = SPEC.index("shown_times"), SPEC.index("shown_idle_min")


def fill_shown(columns: Columns, c: Candidates, ctx: RequestContext) -> None:
    """Fill how often the user was shown each candidate, and how long ago.

    Users want an item less after they have passed it (impression discounting: Lee et al., "Modeling
    impression discounting in large-scale recommender systems", KDD 2014), and the ranker learns how much.
    """
    shown = ctx.shown
    n = 0 if shown is None else int(shown["count"][0])
    if shown is None or not n:
        columns.fill_all(_IDLE_MIN, -1)
        return
    idle = np.log1p(np.maximum(ctx.now / 1000 - shown["times"][0, :n], 0) / 60)
    times = np.log1p(shown["counts"][0, :n].astype(np.float32))
    found = sums_among(c.items, shown["items"][0, :n], np.stack([times, idle.astype(np.float32) + 1]))
    columns.array[_TIMES] = found[0]
    columns.array[_IDLE_MIN] = found[1] - 1
