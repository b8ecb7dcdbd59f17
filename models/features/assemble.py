"""The one function that fills the feature list: for serving, for the log, and so for training.

Counts are transformed by ``log1p``: it changes nothing for trees, and the online linear model needs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.features.columns import Columns
from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.features.item import fill_country, fill_item
from headrace.models.features.local_time import local_time
from headrace.models.features.pair import fill_content, fill_pairs, fill_prior
from headrace.models.features.shown import fill_shown
from headrace.models.features.spec import SPEC
from headrace.models.features.taste import fill_lifts, fill_sums
from headrace.models.features.user import fill_taste, fill_user
from headrace.streams.messages.ages import age_group
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import HOUR_MS

F32 = npt.NDArray[np.float32]

SURFACES = ("home", "related", "digest")
_SURFACE, _HOUR, _LOCAL_HOUR, _WEEKDAY, _AGE_GROUP, _DEVICE = (
    SPEC.index(name) for name in ("surface", "hour", "local_hour", "weekday", "age_group", "device")
)


def assemble(user: npt.NDArray[Any] | None, c: Candidates, ctx: RequestContext) -> F32:
    """Return the feature matrix, float32 ``(n_candidates, len(SPEC))``, column after column in memory.

    Parameters
    ----------
    user
        The user's row (``user_state.ROW``, shape ``(1,)``), or None for an unknown user.
    c
        The candidates.
    ctx
        Time asked, country, device, surface, the user's vectors.

    Notes
    -----
    ``position`` is left 0, its value at serving; the shown position is set when the list is logged. Rates are
    smoothed towards 5 % with the weight of 20 impressions.
    """
    columns = Columns(c.category)
    fill_item(columns, c, ctx)
    fill_country(columns, c)
    fill_pairs(columns, c)
    fill_content(columns, c, ctx)
    fill_prior(columns)
    names = False
    if user is not None:
        fill_user(columns, user, ctx)
        names = fill_taste(columns, user, c)
    fill_lifts(columns, ctx, names=names)
    fill_shown(columns, c, ctx)
    columns.fill_logs()
    fill_sums(columns)
    local_hour, weekday = local_time(ctx.country, ctx.now)
    columns.fill_all(_SURFACE, SURFACES.index(ctx.surface))
    columns.fill_all(_HOUR, (ctx.now // HOUR_MS) % 24)
    columns.fill_all(_LOCAL_HOUR, local_hour)
    columns.fill_all(_WEEKDAY, weekday)
    columns.fill_all(_AGE_GROUP, age_group(ctx.age) - 1)
    columns.fill_all(_DEVICE, hash64(ctx.device) % 64)
    return columns.array.T
