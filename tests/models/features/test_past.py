"""The compiled reading of a user's past gives the same bits as arrays of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.features.history import CLICKS, SHOWN, TIMES, evidence
from headrace.models.features.past import past_of
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state

RECENT, PLACES = user_state.RECENT, shown_state.SHOWN


def a_user(rng: np.random.Generator, clicks: int) -> Any:
    """Return the row of a user with so many clicks."""
    row = np.zeros(1, user_state.ROW)
    row["n_clicks"] = clicks
    row["recent"][0, : min(clicks, RECENT)] = rng.integers(0, 60, min(clicks, RECENT))
    row["recent_ts"] = rng.integers(0, 100_000, RECENT)
    return row


def was_shown(rng: np.random.Generator, count: int) -> Any:
    """Return a row of so many items shown."""
    row = np.zeros(1, shown_state.ROW)
    row["count"] = count
    row["items"][0, :count] = rng.permutation(1000)[:count]
    row["times"], row["counts"] = rng.integers(0, 100, PLACES), rng.integers(0, 256, PLACES)
    return row


def plain(user: Any, shown: Any) -> tuple[Any, Any]:
    """Return what ``evidence`` does, by numpy."""
    clicked, since = np.zeros(0, np.uint64), 0
    if user is not None:
        n = int(user["n_clicks"][0])
        clicked = user["recent"][0, (n - 1 - np.arange(RECENT)[:n]) % RECENT]
        since = int(user["recent_ts"][0, n % RECENT]) // 1000 if n > RECENT else 0
    weights = (np.log(TIMES) * np.exp2(-np.arange(RECENT) / CLICKS[:, None])).astype(np.float32)
    weights, items = weights[:, : len(clicked)], clicked
    if shown is not None:
        m = int(shown["count"][0])
        seen, times, counts = (shown[name][0, :m][::-1] for name in ("items", "times", "counts"))
        hit = np.isin(seen, clicked)
        keep = ~hit & ~((times < since) & (since > 0))
        newer = np.cumsum(counts[keep]) - counts[keep]
        showings = int(counts[keep].astype(int).sum())
        rate = (int(hit.sum()) + 1) / (int(hit.sum()) + showings + 15)
        left = np.exp2(-np.arange(2000) / SHOWN[:, None]).astype(np.float32)
        against = counts[keep] * np.float32(-rate * (1 - 1 / TIMES)) * left[:, np.minimum(newer, 1999)]
        items, weights = np.concatenate([clicked, seen[keep]]), np.concatenate([weights, against], axis=1)
    return items, weights


@given(
    st.integers(0, 2**32),
    st.none() | st.integers(0, 2 * RECENT),
    st.none() | st.sampled_from([0, 1, 7, PLACES]) | st.integers(0, PLACES),
)
def test_the_past_of_a_user(seed: int, clicks: int | None, count: int | None) -> None:
    rng = np.random.default_rng(seed)
    user = None if clicks is None else a_user(rng, clicks)
    shown = None if count is None else was_shown(rng, count)
    items, weights = evidence(user, shown)
    expected = plain(user, shown)
    assert (items.dtype, weights.dtype) == (np.uint64, np.float32)
    assert items.tolist() == expected[0].tolist()
    assert weights.shape == expected[1].shape
    assert weights.tobytes() == expected[1].astype(np.float32).tobytes()


def test_other_rows_and_weights_are_refused() -> None:
    rng, two = np.random.default_rng(1), np.ones((2, RECENT), np.float32)
    user, shown = a_user(rng, 3), was_shown(rng, 3)
    with pytest.raises(ValueError, match="rows of other fields"):
        past_of(shown, user, two, two, 15, 0.5)
    with pytest.raises(ValueError, match="2 rows are given"):
        past_of(np.append(user, user), None, two, two, 15, 0.5)
    for click, left in ((two[:1], two), (two[:, 1:].copy(), two), (two, two[:1]), (two, two[:, :0].copy())):
        with pytest.raises(ValueError, match="weights of 20 clicks"):
            past_of(user, shown, click, left, 15, 0.5)
