"""The feature list: which columns there are, in which order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """An ordered list of feature names; ``version`` changes whenever the list does."""

    names: tuple[str, ...]

    @property
    def version(self) -> str:
        """Return a short fingerprint of the list."""
        return _fingerprint(self.names)

    def index(self, name: str) -> int:
        """Return the column of ``name``."""
        return self.names.index(name)

    def __len__(self) -> int:
        return len(self.names)


@cache
def _fingerprint(names: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


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
        "item_duration",
        "item_watched_24h",
        "category_watched_24h",
        "item_ctr_lift_24h",
        "item_seen_lift_24h",
        "item_category_ctr_24h",
        "item_category_seen_24h",
        "item_dwell_lift_24h",
        "item_category_dwell_24h",
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
        "age_group",
        # the user and the item
        "next_score",
        "next_share",
        "next_share_2",
        "next_share_all",
        "next_recent",
        "next_total",
        "next_smoothed",
        "together_score",
        "together_share",
        "together_lift",
        "together_rank",
        "together_recent",
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
        "shown_times",
        "shown_idle_min",
        "creator_seen",
        "same_language",
        "prior_lately",
        "prior_lately_rank",
        "category_lift",
        "category_lift_now",
        "taste_prior",
        "category_clicked",
        "category_passed",
        "category_rate",
        "category_weight",
        "creator_weight",
        "category_dwell",
        "category_views",
        # the request
        "surface",
        "hour",
        "local_hour",
        "weekday",
        "device",
        "position",
        "online_score",
    )
)

POSITION = SPEC.index("position")
ONLINE = SPEC.index("online_score")
#: The columns the online model reads: all but the position and its own score.
ONLINE_COLUMNS = np.array([i for i, n in enumerate(SPEC.names) if n not in {"position", "online_score"}])
ONLINE_NAMES = tuple(SPEC.names[i] for i in ONLINE_COLUMNS)

_PRIOR = ("prior_lately", "prior_lately_rank")  # a sum of pairs and popularity: of both groups
#: Groups of features that a report trains without, one at a time.
GROUPS: dict[str, tuple[str, ...]] = {
    "online score": ("online_score",),
    "windows": (
        *(n for n in SPEC.names if n.startswith(("item_", "country_", "user_")) and n != "item_age_h"),
        *_PRIOR,
    ),
    "co-visitation": (*(n for n in SPEC.names if n.startswith(("next_", "together_"))), *_PRIOR),
    "embeddings": ("vector_user", "vector_last"),
    "taste": tuple(n for n in SPEC.names if n.startswith(("category_", "creator_", "same_", "taste_"))),
    "what was shown": ("shown_times", "shown_idle_min"),
    "position": ("position",),
}
