"""The one function that fills the feature list: for serving, for the log, and so for training.

Counts are transformed by ``log1p``: it changes nothing for trees, and the online linear model needs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.features.item import fill_country, fill_item
from headrace.models.features.local_time import local_time
from headrace.models.features.pair import fill_content, fill_pairs, fill_prior
from headrace.models.features.spec import SPEC
from headrace.models.features.taste import fill_lifts
from headrace.models.features.user import fill_shown, fill_taste, fill_user
from headrace.streams.messages.ages import age_group
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import HOUR_MS

F32 = npt.NDArray[np.float32]

SURFACES = ("home", "related", "digest")


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
    columns = np.zeros((len(SPEC), len(c)), np.float32)  # each in one piece: written twice as fast
    put = dict(zip(SPEC.names, columns, strict=True))
    fill_item(put, c, ctx)
    fill_country(put, c)
    fill_pairs(put, c)
    fill_content(put, c, ctx)
    fill_prior(put)
    if user is not None:
        fill_user(put, user, ctx)
        fill_taste(put, user, c)
    fill_lifts(put, c, ctx, names=user is not None and bool(user["preferred"].any()))
    fill_shown(put, c, ctx)
    put["surface"][:] = SURFACES.index(ctx.surface)
    put["hour"][:] = (ctx.now // HOUR_MS) % 24
    put["local_hour"][:], put["weekday"][:] = local_time(ctx.country, ctx.now)
    put["age_group"][:] = age_group(ctx.age) - 1
    put["device"][:] = hash64(ctx.device) % 64
    return columns.T
