"""The compiled sums over candidates are those of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.state.items import BLANK, COUNTS, METRICS, ROW
from headrace.serving.rerank.priors import counts_of, prior_rates

CLICK, SHOWN = METRICS.index("click"), METRICS.index("shown")


def rows(m: int, rng: np.random.Generator) -> Any:
    """Return item rows with counts of up to 40 bits."""
    out = np.full(m, BLANK, ROW)
    out["totals"] = rng.integers(0, [150, 2**32][rng.integers(2)], out["totals"].shape)
    out["totals_x"] = rng.integers(0, 256, out["totals_x"].shape) * (rng.random(out["totals_x"].shape) < 0.1)
    return out


def plain(clicks: Any, shown: Any, category: Any, creator: Any, places: Any, begin: Any) -> Any:
    """Return the rates of the items at some places, by arrays."""
    weight, clicks = sum(begin), np.minimum(clicks, shown)
    own_clicks, own_shown = clicks[places], shown[places]
    rate = (clicks.sum() - own_clicks + begin[0]) / (shown.sum() - own_shown + weight)
    for ids in (category, creator):
        own, group = ids[places], np.unique(ids, return_inverse=True)[1]
        others_clicks = np.bincount(group, clicks)[group[places]] - own_clicks
        others_shown = np.bincount(group, shown)[group[places]] - own_shown
        rate = np.where(own != 0, (others_clicks + weight * rate) / (others_shown + weight), rate)
    return rate


@given(st.integers(0, 80), st.integers(0, 2**32))
def test_the_rates_are_those_of_arrays(m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    clicks, shown = rng.integers(0, 50, m).astype(float), rng.integers(0, 900, m).astype(float)
    category = rng.choice(np.array([0, 1, 2**63, 2**64 - 1], np.uint64), m)
    creator = rng.integers(0, 2**64, max(1, m // 3), np.uint64)[rng.integers(0, max(1, m // 3), m)]
    wanted, begin = rng.random(m) < 0.4, (1.0, 20.0)
    got = prior_rates(clicks, shown, category, creator, wanted, begin)
    assert not got[~wanted].any()
    expected = plain(clicks, shown, category, creator, np.flatnonzero(wanted), begin)
    np.testing.assert_array_equal(got[wanted], expected)


@given(st.integers(0, 60), st.integers(0, 2**32))
def test_the_counts_are_those_of_the_rows(m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stats, published = rows(m, rng), rng.integers(0, 1000, m)
    clicks, shown, fresh, tail = counts_of(
        stats["totals"], stats["totals_x"], CLICK, SHOWN, published, 1000, 500, 100, 70
    )
    np.testing.assert_array_equal(clicks, COUNTS.totals(stats, "click").astype(np.float64))
    np.testing.assert_array_equal(shown, COUNTS.totals(stats, "shown").astype(np.float64))
    assert fresh.tolist() == ((1000 - published < 500) & (shown < 100)).tolist()
    assert tail.tolist() == (clicks < 70).tolist()


def test_columns_that_do_not_fit_are_refused() -> None:
    stats, times = rows(2, np.random.default_rng(0)), np.zeros(3, np.int64)
    with pytest.raises(ValueError, match="2 and 2 rows, 3 times"):
        counts_of(stats["totals"], stats["totals_x"], CLICK, SHOWN, times, 0, 0, 0, 0)
    with pytest.raises(IndexError, match="metrics 9 and 0 of 5"):
        counts_of(stats["totals"], stats["totals_x"], 9, 0, times[:2], 0, 0, 0, 0)
    ids = np.zeros(2, np.uint64)
    with pytest.raises(ValueError, match="different lengths"):
        prior_rates(np.ones(2), np.ones(2), ids, ids, np.ones(1, bool), (1.0, 20.0))
