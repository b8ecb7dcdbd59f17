"""The features with numpy, column by column: the compiled ones must be the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.features.assemble import SURFACES
from headrace.models.features.history import TIMES
from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.features.local_time import local_time
from headrace.models.features.places import ranks
from headrace.models.features.spec import SPEC
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.streams.messages.ages import age_group
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import HOUR_MS
from headrace.streams.windows import WINDOW_NAMES

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

SMOOTHING = np.float32(20)
ONE = np.float32(1)
_5M, _1H, _24H = range(3)
_SHOWN, _CLICK, _SKIP, _DWELL, _LIKE = range(len(item_state.METRICS))


def assembled(user: npt.NDArray[Any] | None, c: Candidates, ctx: RequestContext) -> F32:
    """Return what ``assemble`` must return."""
    columns = np.zeros((len(SPEC), len(c)), np.float32)
    put = dict(zip(SPEC.names, columns, strict=True))
    fill_item(put, c, ctx)
    fill_country(put, c)
    fill_pairs(put, c)
    fill_content(put, c, ctx)
    fill_prior(put)
    if user is not None:
        fill_user(put, user, ctx)
        fill_taste(put, user, c, ctx.now)
    fill_lifts(put, c, ctx, names=user is not None and bool(user["preferred"].any()))
    fill_shown(put, c, ctx)
    put["surface"][:] = SURFACES.index(ctx.surface)
    put["hour"][:] = (ctx.now // HOUR_MS) % 24
    put["local_hour"][:], put["weekday"][:] = local_time(ctx.country, ctx.now)
    put["age_group"][:] = age_group(ctx.age) - 1
    put["device"][:] = hash64(ctx.device) % 64
    return columns.T


def fill_item(put: dict[str, F32], c: Candidates, ctx: RequestContext) -> None:
    """Fill the features of each item: counts, rates, age, and its place among the candidates."""
    w = item_state.WINDOWS.read(c.stats, ctx.now, names=("5m", "1h", "24h"))
    quarter = item_state.WINDOWS.read_one(c.stats, ctx.now, "1h", "click", 3)
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
    """Fill the share of its duration that an item was watched for, and that of its category, 0 to 1."""
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


def fill_lifts_of_items(put: dict[str, F32], clicks: F32, shown: F32, skips: F32, category: U64) -> None:
    """Fill the log of each item's rates against its category's, and of these against all candidates'."""
    group, known = numbered(category), category != 0
    shown = np.maximum(shown, clicks)  # items are clicked outside of lists, too
    for name, of, weight in (("ctr", shown, np.float32(20)), ("seen", clicks + skips, np.float32(5))):
        every = (clicks.sum() + ONE) / (of.sum() + np.float32(20))
        _fill_lifts(put, name, clicks, of, weight, every, group, known)


def fill_lifts_of_views(put: dict[str, F32], clicks: F32, dwell_s: F32, category: U64) -> None:
    """Fill the log of the mean time of an item's views against its category's, and of this against all."""
    if dwell_s.any():
        every = _usual_view(clicks, dwell_s)
        _fill_lifts(put, "dwell", dwell_s, clicks, np.float32(4), every, numbered(category), category != 0)


def _fill_lifts(
    put: dict[str, F32], name: str, what: F32, of: F32, weight: Any, every: Any, group: I64, known: Any
) -> None:
    theirs = (np.bincount(group, what) + weight * every) / (np.bincount(group, of) + weight)
    lift = np.where(known, (theirs / every).astype(np.float32)[group], np.float32(1))
    own = (what + weight * every * lift) / (of + weight)
    put[f"item_category_{name}_24h"][:] = np.log(lift)
    put[f"item_{name}_lift_24h"][:] = np.log(own / (every * lift))


def fill_shown(put: dict[str, F32], c: Candidates, ctx: RequestContext) -> None:
    """Fill how often the user was shown each candidate, and how long ago."""
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


def share(x: F32) -> F32:
    """Return each value as a share of the sum, float32 ``(n,)``; zeros stay zeros."""
    total = float(x.sum())
    return x / np.float32(total) if total > 0 else x


def smoothed(x: F32, towards: F32) -> F32:
    """Return the shares of the counts ``x``, smoothed towards the shares ``towards``; float32 ``(n,)``."""
    out: F32 = ((x + SMOOTHING * towards) / (x.sum() + SMOOTHING)).astype(np.float32)
    return out


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
    """Fill the sum of pairs and clicks, both of late; the other features of them must be filled before."""
    pairs = put["next_recent"] + put["together_recent"]
    prior = pairs + put["country_smoothed_1h"] + put["item_click_share_15m"]
    put["prior_lately"][:] = prior
    put["prior_lately_rank"][:] = ranks(prior)


U_5M, U_1H, U_24H = (WINDOW_NAMES.index(name) for name in ("5m", "1h", "24h"))
U_SHOWN, U_CLICK, U_DWELL = (user_state.METRICS.index(name) for name in ("shown", "click", "dwell_s"))


def fill_user(put: dict[str, F32], user: npt.NDArray[Any], ctx: RequestContext) -> None:
    """Fill the user's counts, the same for every candidate; ``user`` is ``user_state.ROW`` ``(1,)``."""
    w = user_state.WINDOWS.read(user, ctx.now)[0]
    row = user[0]
    put["user_clicks_5m"][:] = np.log1p(w[U_5M, U_CLICK])
    put["user_clicks_1h"][:] = np.log1p(w[U_1H, U_CLICK])
    put["user_clicks_24h"][:] = np.log1p(w[U_24H, U_CLICK])
    put["user_ctr_24h"][:] = (w[U_24H, U_CLICK] + 1) / (max(w[U_24H, U_SHOWN], w[U_24H, U_CLICK]) + 20)
    put["user_dwell_mean_24h"][:] = np.log1p(w[U_24H, U_DWELL] / (w[U_24H, U_CLICK] + 1))
    put["user_clicks_total"][:] = np.log1p(user_state.COUNTS.totals(row, "click"))
    put["user_session_len"][:] = row["session_len"]
    _, times = user_state.recent_items(row, 1)
    put["user_idle_min"][:] = np.log1p(max(ctx.now - times[0], 0) / 60_000) if times else -1


def _usual_view(clicks: F32, dwell_s: F32) -> Any:
    return dwell_s.sum() / max(clicks.sum(), ONE)


def _fill_views(put: dict[str, F32], row: Any, c: Candidates, now: int) -> None:
    """Fill how many views a user has of each category, and how much longer than usual they are."""
    slots, views = np.where(row["cat_views"] > 0, row["cat"], 0).astype(np.uint64), row["cat_views"]
    put["category_views"][:] = np.log1p(weights_among(c.category, slots, views))
    day = item_state.WINDOWS.read(c.stats, now, names=("24h",))[:, 0]
    if day[:, _DWELL].any():
        usual = np.log1p(np.full(1, _usual_view(day[:, _CLICK], day[:, _DWELL]), np.float32))[0]
        longer = (row["cat_dwell"] - views * usual) / (views + np.float32(2))
        put["category_dwell"][:] = weights_among(c.category, slots, longer)


def fill_taste(put: dict[str, F32], user: npt.NDArray[Any], c: Candidates, now: int) -> None:
    """Fill how well each candidate matches the user's taste, profile and recent clicks."""
    row = user[0]
    for name, short, keys in (("category", "cat", c.category), ("creator", "creator", c.creator)):
        share, weight = _affinity(row[short], row[f"{short}_w"], keys)
        put[f"{name}_affinity"][:], put[f"{name}_weight"][:] = share, weight
    _fill_views(put, row, c, now)
    put["category_preferred"][:] = _among(c.category, row["preferred"])
    put["creator_followed"][:] = _among(c.creator, row["followed"])
    put["seen_before"][:] = _among(c.items, row["recent"])
    put["creator_seen"][:] = _among(c.creator, row["creator"])


def _affinity(slots: U64, weights: F32, keys: U64) -> tuple[F32, F32]:
    """Return the weight of each key among a user's slots: as a share of all weight, and the log of it."""
    if not weights.any():
        nothing = np.zeros(len(keys), np.float32)
        return nothing, nothing
    found, total = weights_among(keys, slots, weights), np.abs(weights).sum()
    return found / np.float32(total), np.log1p(np.maximum(found, 0))


def _among(keys: U64, few: U64) -> npt.NDArray[np.bool_]:
    """Return which keys are among a few (0: an empty place), bool ``(n,)``."""
    return among(keys, few[few != 0])


def fill_lifts(put: dict[str, F32], c: Candidates, ctx: RequestContext, *, names: bool) -> None:
    """Fill the lifts of each candidate's category; ``fill_item`` and ``fill_taste`` must have run before."""
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
        odds[0] += np.where(put["category_preferred"] > 0, np.float32(3), np.float32(-1.5)) * (
            c.category != 0
        )
    lift = _lift(odds)
    put["category_lift"][:], put["category_lift_now"][:] = lift
    put["taste_prior"][:] = np.log(put["item_ctr_24h"]) + lift[0]


def _lift(odds: F32) -> F32:
    """Return the log of the expected click rate, against that of a category nothing is known of."""
    usual = (ONE + np.float32(15)) / (np.float32(TIMES) + np.float32(15))
    others = np.exp(-odds) * np.float32(15)
    out: F32 = np.log((np.float32(TIMES) + others) / (1 + others) * usual)
    return out


def numbered(keys: U64) -> I64:
    """Return a number for each key, in the order they come first."""
    first = list(dict.fromkeys(keys.tolist()))
    return np.array([first.index(key) for key in keys.tolist()], np.int64)


def among(keys: U64, few: U64) -> npt.NDArray[np.bool_]:
    """Return which keys are among a few."""
    return np.isin(keys, few)


def weights_among(keys: U64, few: U64, weights: F32) -> F32:
    """Return the weight of each key; of one that is there twice, the first."""
    places = {key: place for place, key in reversed(list(enumerate(few.tolist()))) if key}
    return np.array([weights[places[key]] if key in places else 0 for key in keys.tolist()], np.float32)


def sums_among(keys: U64, few: U64, amounts: F32) -> F32:
    """Return what the amounts of each key add up to."""
    sums = {key: np.zeros(len(amounts), np.float32) for key in keys.tolist()}
    for place, key in enumerate(few.tolist()):
        if key in sums and key:
            sums[key] += amounts[:, place]
    return np.array([sums[key] for key in keys.tolist()], np.float32).reshape(len(keys), len(amounts)).T
