"""The feature list and the one function that fills it, for serving, for the log and so for training.

Counts go in as ``log1p``: trees do not care, the online linear model does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import HOUR_MS
from headrace.streams.windows import WINDOW_NAMES

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

SURFACES = ("home", "related", "digest")
_5M, _1H, _24H = (WINDOW_NAMES.index(name) for name in ("5m", "1h", "24h"))
#: Buckets of the hourly window that make about a quarter of an hour.
QUARTER = 3
#: Counts a small sample is drawn to the average with.
SMOOTHING = np.float32(20)


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """An ordered list of feature names; ``version`` changes whenever the list does."""

    names: tuple[str, ...]

    @property
    def version(self) -> str:
        """Return a short fingerprint of the list."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:12]

    def index(self, name: str) -> int:
        """Return the column of ``name``."""
        return self.names.index(name)

    def __len__(self) -> int:
        return len(self.names)


SPEC = FeatureSpec(
    (
        # the item, everywhere
        "item_clicks_5m",
        "item_clicks_15m",
        "item_clicks_1h",
        "item_clicks_24h",
        "item_clicks_total",
        "item_shown_1h",
        "item_shown_24h",
        "item_ctr_1h",
        "item_ctr_24h",
        "item_skip_rate_24h",
        "item_dwell_mean_24h",
        "item_like_rate_24h",
        "item_trend",
        "item_age_h",
        "item_idle_min",
        # the item, among these candidates and in this country
        "item_click_share_5m",
        "item_click_share_15m",
        "item_click_share_1h",
        "item_click_rank_15m",
        "item_click_rank_1h",
        "country_clicks_1h",
        "country_share_1h",
        "country_rank_1h",
        "country_smoothed_1h",
        # the user
        "user_clicks_5m",
        "user_clicks_1h",
        "user_clicks_24h",
        "user_ctr_24h",
        "user_dwell_mean_24h",
        "user_clicks_total",
        "user_session_len",
        "user_idle_min",
        # the user and the item
        "next_score",
        "next_share",
        "next_share_2",
        "next_share_all",
        "next_total",
        "next_smoothed",
        "together_score",
        "together_share",
        "together_lift",
        "together_rank",
        "next_rank",
        "vector_user",
        "vector_last",
        "category_affinity",
        "creator_affinity",
        "category_preferred",
        "creator_followed",
        "same_category_as_last",
        "same_creator_as_last",
        "seen_before",
        "prior_score",
        "prior_rank",
        # the request
        "surface",
        "hour",
        "device",
        "position",
        "online_score",
    )
)

POSITION = SPEC.index("position")
ONLINE = SPEC.index("online_score")
#: What the online model sees: all but the position and its own score.
ONLINE_COLUMNS = np.array([i for i, n in enumerate(SPEC.names) if n not in {"position", "online_score"}])
ONLINE_NAMES = tuple(SPEC.names[i] for i in ONLINE_COLUMNS)


@dataclass(slots=True)
class Candidates:
    """What is known of ``n`` candidates before ranking; arrays are ``(n,)`` unless said otherwise."""

    items: U64
    stats: npt.NDArray[Any]  # item_state.ROW
    category: U64
    creator: U64
    published: npt.NDArray[np.int64]
    vectors: F32  # (n, DIM); zeros where an item has none
    country_clicks: F32  # of the request's country in the last hour
    next_score: F32  # how strongly it follows the last click
    next_share: F32  # the same, as a share of all that follows it
    next_share_2: F32  # for the click before
    together: F32  # seen with the session's clicks, fading with distance
    next_share_all: F32 | None = None  # ``next_share`` of every click of the session, fading with distance
    next_total: float = 0.0  # weight of all that follows the last click: how far its shares can be trusted

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The request-time tier."""

    now: int
    country: int
    device: str
    surface: str
    user_vector: F32  # (DIM,)
    last_vector: F32  # (DIM,)
    last_category: int = 0
    last_creator: int = 0


def _ranks(score: F32) -> F32:
    """Return 1 for the highest, 2 for the next ..., 0 where the score is 0."""
    out = np.zeros(len(score), np.float32)
    out[np.argsort(-score, kind="stable")] = np.arange(1, len(score) + 1)
    return np.where(score > 0, out, 0).astype(np.float32)


def _share(x: F32) -> F32:
    total = float(x.sum())
    return x / np.float32(total) if total > 0 else x


def _smoothed(x: F32, towards: F32) -> F32:
    """Return shares of ``x``, drawn to the shares ``towards`` with the weight of ``SMOOTHING`` counts."""
    out: F32 = ((x + SMOOTHING * towards) / (x.sum() + SMOOTHING)).astype(np.float32)
    return out


def _affinity(slots: U64, weights: F32, keys: U64) -> F32:
    """Return the weight of each key among a user's slots, float32 ``(n,)``, as a share of all weight."""
    if not weights.any():
        return np.zeros(len(keys), np.float32)
    hit = (keys[:, None] == slots[None, :]) & (keys != 0)[:, None]
    total = float(np.abs(weights).sum()) or 1.0
    out: F32 = (hit * weights[None, :]).sum(1).astype(np.float32) / np.float32(total)
    return out


def assemble(user: npt.NDArray[Any] | None, c: Candidates, ctx: RequestContext) -> F32:
    """Return the feature matrix, float32 ``(n_candidates, len(SPEC))``.

    Parameters
    ----------
    user
        The user's row (``user_state.ROW``, shape ``(1,)``), or None for somebody unknown.
    c
        The candidates.
    ctx
        Time asked, country, device, surface, the user's vectors.

    Notes
    -----
    ``position`` is left 0, its value at serving; the shown position is set when the list is logged. Rates are
    smoothed towards 5 % with the weight of 20 impressions.
    """
    n = len(c)
    out = np.zeros((n, len(SPEC)), np.float32)
    put = dict(zip(SPEC.names, out.T, strict=True))
    _item(put, c, ctx)
    _among(put, c)
    _pairing(put, c, ctx)
    _prior(put)
    if user is not None:
        _user(put, user, ctx)
        _taste(put, user, c)
    put["surface"][:] = SURFACES.index(ctx.surface)
    put["hour"][:] = (ctx.now // HOUR_MS) % 24
    put["device"][:] = hash64(ctx.device) % 64
    return out


def _item(put: dict[str, F32], c: Candidates, ctx: RequestContext) -> None:
    w = item_state.WINDOWS.read(c.stats, ctx.now)
    shown, click, skip, dwell, like = range(len(item_state.METRICS))
    put["item_clicks_5m"][:] = np.log1p(w[:, _5M, click])
    quarter = item_state.WINDOWS.read_one(c.stats, ctx.now, "1h", "click", QUARTER)
    put["item_clicks_15m"][:] = np.log1p(quarter)
    put["item_clicks_1h"][:] = np.log1p(w[:, _1H, click])
    put["item_clicks_24h"][:] = np.log1p(w[:, _24H, click])
    put["item_clicks_total"][:] = np.log1p(item_state.COUNTS.totals(c.stats, "click"))
    put["item_shown_1h"][:] = np.log1p(w[:, _1H, shown])
    put["item_shown_24h"][:] = np.log1p(w[:, _24H, shown])
    put["item_ctr_1h"][:] = (w[:, _1H, click] + 1) / (np.maximum(w[:, _1H, shown], w[:, _1H, click]) + 20)
    put["item_ctr_24h"][:] = (w[:, _24H, click] + 1) / (np.maximum(w[:, _24H, shown], w[:, _24H, click]) + 20)
    put["item_skip_rate_24h"][:] = w[:, _24H, skip] / (w[:, _24H, skip] + w[:, _24H, click] + 20)
    put["item_dwell_mean_24h"][:] = np.log1p(w[:, _24H, dwell] / (w[:, _24H, click] + 1))
    put["item_like_rate_24h"][:] = w[:, _24H, like] / (w[:, _24H, click] + 20)
    put["item_trend"][:] = (12 * w[:, _5M, click] + 1) / (w[:, _1H, click] + 1)
    born = np.where(c.published > 0, c.published, c.stats["first_ts"])
    put["item_age_h"][:] = np.where(born > 0, np.log1p(np.maximum(ctx.now - born, 0) / HOUR_MS), -1)
    last = c.stats["last_click"]
    put["item_idle_min"][:] = np.where(last > 0, np.log1p(np.maximum(ctx.now - last, 0) / 60_000), -1)
    put["item_click_share_5m"][:] = _share(w[:, _5M, click])
    put["item_click_share_15m"][:] = _share(quarter)
    put["item_click_rank_15m"][:] = _ranks(quarter)
    put["item_click_share_1h"][:] = _share(w[:, _1H, click])
    put["item_click_rank_1h"][:] = _ranks(w[:, _1H, click])


def _among(put: dict[str, F32], c: Candidates) -> None:
    put["country_clicks_1h"][:] = np.log1p(c.country_clicks)
    put["country_share_1h"][:] = _share(c.country_clicks)
    put["country_rank_1h"][:] = _ranks(c.country_clicks)
    # A country with few clicks is taken for an average one.
    put["country_smoothed_1h"][:] = _smoothed(c.country_clicks, put["item_click_share_1h"])


def _pairing(put: dict[str, F32], c: Candidates, ctx: RequestContext) -> None:
    put["next_score"][:] = np.log1p(c.next_score)
    put["next_share"][:] = c.next_share
    put["next_share_2"][:] = c.next_share_2
    if c.next_share_all is not None:
        put["next_share_all"][:] = c.next_share_all
    put["next_total"][:] = np.log1p(c.next_total)
    popular = put["item_click_share_1h"]
    put["next_smoothed"][:] = (c.next_score + SMOOTHING * popular) / (np.float32(c.next_total) + SMOOTHING)
    put["together_score"][:] = c.together
    put["together_share"][:] = _share(c.together)
    # Popular items are seen with everything: what is left of it against the item's own clicks.
    put["together_lift"][:] = c.together / np.sqrt(item_state.COUNTS.totals(c.stats, "click") + 10.0)
    put["together_rank"][:] = _ranks(c.together)
    put["next_rank"][:] = _ranks(c.next_score)
    put["vector_user"][:] = c.vectors @ ctx.user_vector
    put["vector_last"][:] = c.vectors @ ctx.last_vector
    if ctx.last_category:
        put["same_category_as_last"][:] = c.category == ctx.last_category
    if ctx.last_creator:
        put["same_creator_as_last"][:] = c.creator == ctx.last_creator


def _user(put: dict[str, F32], user: npt.NDArray[Any], ctx: RequestContext) -> None:
    w = user_state.WINDOWS.read(user, ctx.now)[0]
    shown, click, dwell = (user_state.METRICS.index(name) for name in ("shown", "click", "dwell_s"))
    row = user[0]
    put["user_clicks_5m"][:] = np.log1p(w[_5M, click])
    put["user_clicks_1h"][:] = np.log1p(w[_1H, click])
    put["user_clicks_24h"][:] = np.log1p(w[_24H, click])
    put["user_ctr_24h"][:] = (w[_24H, click] + 1) / (max(w[_24H, shown], w[_24H, click]) + 20)
    put["user_dwell_mean_24h"][:] = np.log1p(w[_24H, dwell] / (w[_24H, click] + 1))
    put["user_clicks_total"][:] = np.log1p(user_state.COUNTS.totals(row, "click"))
    put["user_session_len"][:] = row["session_len"]
    _, times = user_state.recent_items(row, 1)
    put["user_idle_min"][:] = np.log1p(max(ctx.now - times[0], 0) / 60_000) if times else -1


def _taste(put: dict[str, F32], user: npt.NDArray[Any], c: Candidates) -> None:
    row = user[0]
    put["category_affinity"][:] = _affinity(row["cat"], row["cat_w"], c.category)
    put["creator_affinity"][:] = _affinity(row["creator"], row["creator_w"], c.creator)
    put["category_preferred"][:] = _among_these(c.category, row["preferred"])
    put["creator_followed"][:] = _among_these(c.creator, row["followed"])
    put["seen_before"][:] = _among_these(c.items, row["recent"])


def _among_these(keys: U64, few: U64) -> npt.NDArray[np.bool_]:
    """Return which keys are among a few; 0 is nothing. So few are faster than ``np.isin``."""
    few = few[few != 0]
    hit: npt.NDArray[np.bool_] = (keys[:, None] == few[None, :]).any(1)
    return hit


def _prior(put: dict[str, F32]) -> None:
    """Add up pairs and popularity: trees find it hard to build such a sum, and do better starting from it."""
    prior = put["next_share"] + put["together_share"] + put["item_click_share_1h"]
    put["prior_score"][:] = prior
    put["prior_rank"][:] = _ranks(prior)
