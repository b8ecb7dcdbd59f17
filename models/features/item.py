"""Features of the item: windows, age, and its rank among the candidates and in the country."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.features.rates import fill_lifts_of_items, fill_lifts_of_views
from headrace.models.features.relative import ranks, share, smoothed
from headrace.models.state import items as item_state
from headrace.models.state.key_sets import numbered
from headrace.streams.settings import HOUR_MS

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

#: The windows that are read.
_READ = ("5m", "1h", "24h")
_5M, _1H, _24H = range(3)
_SHOWN, _CLICK, _SKIP, _DWELL, _LIKE = (
    item_state.METRICS.index(name) for name in ("shown", "click", "skip", "dwell_s", "like")
)
#: Buckets of the hourly window that make about a quarter of an hour.
_QUARTER = 3


def fill_item(put: dict[str, F32], c: Candidates, ctx: RequestContext) -> None:
    """Fill the features of each item: counts, rates, age, and its place among the candidates."""
    w = item_state.WINDOWS.read(c.stats, ctx.now, names=_READ)
    quarter = item_state.WINDOWS.read_one(c.stats, ctx.now, "1h", "click", _QUARTER)
    _counts(put, w, quarter, item_state.COUNTS.totals(c.stats, "click"))
    _rates(put, w)
    day = w[:, _24H]
    fill_lifts_of_items(put, day[:, _CLICK], day[:, _SHOWN], day[:, _SKIP], c.category)
    fill_lifts_of_views(put, day[:, _CLICK], day[:, _DWELL], c.category)
    _age(put, c, ctx)
    if c.duration is not None and c.duration.any():
        _watched(put, w, c.category, c.duration)
    put["item_click_share_5m"][:] = share(w[:, _5M, _CLICK])
    put["item_click_share_15m"][:] = share(quarter)
    put["item_click_rank_15m"][:] = ranks(quarter)
    put["item_click_share_1h"][:] = share(w[:, _1H, _CLICK])
    put["item_click_rank_1h"][:] = ranks(w[:, _1H, _CLICK])


def _counts(put: dict[str, F32], w: F32, quarter: F32, total: npt.NDArray[np.uint64]) -> None:
    put["item_clicks_5m"][:] = np.log1p(w[:, _5M, _CLICK])
    put["item_clicks_15m"][:] = np.log1p(quarter)
    put["item_clicks_1h"][:] = np.log1p(w[:, _1H, _CLICK])
    put["item_clicks_24h"][:] = np.log1p(w[:, _24H, _CLICK])
    put["item_clicks_total"][:] = np.log1p(total)
    put["item_shown_1h"][:] = np.log1p(w[:, _1H, _SHOWN])
    put["item_shown_24h"][:] = np.log1p(w[:, _24H, _SHOWN])


def _rates(put: dict[str, F32], w: F32) -> None:
    for name, window in (("item_ctr_1h", _1H), ("item_ctr_24h", _24H)):
        clicks = w[:, window, _CLICK]
        put[name][:] = (clicks + 1) / (np.maximum(w[:, window, _SHOWN], clicks) + 20)
    clicks = w[:, _24H, _CLICK]
    put["item_skip_rate_24h"][:] = w[:, _24H, _SKIP] / (w[:, _24H, _SKIP] + clicks + 20)
    put["item_dwell_mean_24h"][:] = np.log1p(w[:, _24H, _DWELL] / (clicks + 1))
    put["item_like_rate_24h"][:] = w[:, _24H, _LIKE] / (clicks + 20)
    put["item_trend"][:] = (12 * w[:, _5M, _CLICK] + 1) / (w[:, _1H, _CLICK] + 1)


def _age(put: dict[str, F32], c: Candidates, ctx: RequestContext) -> None:
    born = np.where(c.published > 0, c.published, c.stats["first_ts"])
    put["item_age_h"][:] = np.where(born > 0, np.log1p(np.maximum(ctx.now - born, 0) / HOUR_MS), -1)
    last = c.stats["last_click"]
    put["item_idle_min"][:] = np.where(last > 0, np.log1p(np.maximum(ctx.now - last, 0) / 60_000), -1)


def _watched(put: dict[str, F32], w: F32, category: U64, duration: I64) -> None:
    """Fill the share of its duration that an item was watched for, and that of its category, 0 to 1.

    Of the category: of all candidates that are in it and have a duration. Smoothed by one click that watched
    nothing.
    """
    length = (duration / 1000).astype(np.float32)
    timed = length > 0
    clicks, seconds = w[:, _24H, _CLICK] * timed, w[:, _24H, _DWELL] * timed
    could = (clicks + 1) * length
    put["item_duration"][:] = np.log1p(length)
    put["item_watched_24h"][:] = np.minimum(seconds / np.maximum(could, 1), 1)
    group = numbered(category)
    share = np.bincount(group, seconds) / np.maximum(np.bincount(group, could), 1)
    put["category_watched_24h"][:] = np.minimum(share, 1)[group] * (category != 0)


def fill_country(put: dict[str, F32], c: Candidates) -> None:
    """Fill the clicks from the request's country; ``fill_item`` must have run before."""
    put["country_clicks_1h"][:] = np.log1p(c.country_clicks)
    put["country_share_1h"][:] = share(c.country_clicks)
    put["country_rank_1h"][:] = ranks(c.country_clicks)
    # The shares of a country with few clicks are close to the average ones.
    put["country_smoothed_1h"][:] = smoothed(c.country_clicks, put["item_click_share_1h"])
