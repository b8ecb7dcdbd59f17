"""Features of the user: windows, session, and the taste for each item's category and creator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.state import users as user_state
from headrace.models.state.key_sets import among, sums_among, weights_among
from headrace.streams.windows import WINDOW_NAMES

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

_5M, _1H, _24H = (WINDOW_NAMES.index(name) for name in ("5m", "1h", "24h"))
_SHOWN, _CLICK, _DWELL = (user_state.METRICS.index(name) for name in ("shown", "click", "dwell_s"))


def fill_user(put: dict[str, F32], user: npt.NDArray[Any], ctx: RequestContext) -> None:
    """Fill the user's counts, the same for every candidate; ``user`` is ``user_state.ROW`` ``(1,)``."""
    w = user_state.WINDOWS.read(user, ctx.now)[0]
    row = user[0]
    put["user_clicks_5m"][:] = np.log1p(w[_5M, _CLICK])
    put["user_clicks_1h"][:] = np.log1p(w[_1H, _CLICK])
    put["user_clicks_24h"][:] = np.log1p(w[_24H, _CLICK])
    put["user_ctr_24h"][:] = (w[_24H, _CLICK] + 1) / (max(w[_24H, _SHOWN], w[_24H, _CLICK]) + 20)
    put["user_dwell_mean_24h"][:] = np.log1p(w[_24H, _DWELL] / (w[_24H, _CLICK] + 1))
    put["user_clicks_total"][:] = np.log1p(user_state.COUNTS.totals(row, "click"))
    put["user_session_len"][:] = row["session_len"]
    _, times = user_state.recent_items(row, 1)
    put["user_idle_min"][:] = np.log1p(max(ctx.now - times[0], 0) / 60_000) if times else -1


def fill_taste(put: dict[str, F32], user: npt.NDArray[Any], c: Candidates) -> None:
    """Fill how well each candidate matches the user's taste, profile and recent clicks."""
    row = user[0]
    for name, short, keys in (("category", "cat", c.category), ("creator", "creator", c.creator)):
        share, weight = _affinity(row[short], row[f"{short}_w"], keys)
        put[f"{name}_affinity"][:], put[f"{name}_weight"][:] = share, weight
    put["category_preferred"][:] = _among(c.category, row["preferred"])
    put["creator_followed"][:] = _among(c.creator, row["followed"])
    put["seen_before"][:] = _among(c.items, row["recent"])
    put["creator_seen"][:] = _among(c.creator, row["creator"])


def fill_shown(put: dict[str, F32], c: Candidates, ctx: RequestContext) -> None:
    """Fill how often the user was shown each candidate, and how long ago.

    Users want an item less after they have passed it (impression discounting: Lee et al., "Modeling
    impression discounting in large-scale recommender systems", KDD 2014), and the ranker learns how much.
    """
    shown = ctx.shown
    n = 0 if shown is None else int(shown["count"][0])
    if shown is None or not n:
        put["shown_idle_min"][:] = -1
        return
    items = shown["items"][0, :n]
    idle = np.log1p(np.maximum(ctx.now / 1000 - shown["times"][0, :n], 0) / 60)
    times = np.log1p(shown["counts"][0, :n].astype(np.float32))
    put["shown_times"][:], late = sums_among(c.items, items, np.stack([times, idle.astype(np.float32) + 1]))
    put["shown_idle_min"][:] = late - 1


def _affinity(slots: U64, weights: F32, keys: U64) -> tuple[F32, F32]:
    """Return the weight of each key among a user's slots: as a share of all weight, and the log of it.

    Both are float32 ``(n,)``. The second one tells a user with many clicks from one with few; less than
    nothing counts as nothing there.
    """
    if not weights.any():
        nothing = np.zeros(len(keys), np.float32)
        return nothing, nothing
    found, total = weights_among(keys, slots, weights), np.abs(weights).sum()
    return found / np.float32(total), np.log1p(np.maximum(found, 0))


def _among(keys: U64, few: U64) -> npt.NDArray[np.bool_]:
    """Return which keys are among a few (0: an empty place), bool ``(n,)``."""
    return among(keys, few[few != 0])
