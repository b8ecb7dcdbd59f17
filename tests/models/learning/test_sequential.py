"""The always-valid interval: it holds however often one looks, and also when users differ."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headrace.models.learning.sequential import CLUSTERS, difference, half_width


def totals(seed: int, users: int, days: int, lift: float = 0.0) -> list[tuple[np.ndarray, ...]]:
    """Return (examples, clicks) by cluster of two arms, day by day; every user has a rate of his own."""
    rng = np.random.default_rng(seed)
    rate = rng.beta(2, 18, users)
    arm, cluster = rng.integers(0, 2, users), rng.integers(0, CLUSTERS, users)
    sums = np.zeros((2, 2, CLUSTERS), np.int64)
    out = []
    for _ in range(days):
        n = rng.poisson(3, users)
        clicks = rng.binomial(n, rate * np.where(arm, 1 + lift, 1.0))
        np.add.at(sums, (arm, 0, cluster), n)
        np.add.at(sums, (arm, 1, cluster), clicks)
        out.append(tuple(sums.reshape(4, CLUSTERS).copy()))
    return out


def test_the_interval_of_equal_arms_has_no_difference_in_it_at_any_time() -> None:
    wrong = 0
    for seed in range(200):
        found = [difference(*day, alpha=0.05) for day in totals(seed, 2000, 30)]
        wrong += any(d.low > 0 or d.high < 0 for d in found)
    assert wrong <= 10, "alpha of 200"


def test_looking_every_day_at_a_plain_interval_would_be_wrong_far_more_often() -> None:
    """So the test above can fail: users that differ and many looks are what it is about."""
    wrong = 0
    for seed in range(100):
        for n, clicks, other_n, other_clicks in totals(seed, 2000, 30):
            p, q = clicks.sum() / n.sum(), other_clicks.sum() / other_n.sum()
            sd = math.sqrt(p * (1 - p) / n.sum() + q * (1 - q) / other_n.sum())
            if abs(p - q) > 1.96 * sd:
                wrong += 1
                break
    assert wrong > 20


def test_a_real_difference_is_found_and_its_size_is_in_the_interval() -> None:
    found = [difference(*totals(seed, 20_000, 20, 0.3)[-1], alpha=0.05) for seed in range(20)]
    assert all(d.low > 0 for d in found)
    assert sum(d.low <= 0.3 <= d.high for d in found) >= 19
    assert np.mean([d.value for d in found]) == pytest.approx(0.3, abs=0.02)


def test_the_interval_becomes_narrower_with_every_user_and_wider_with_certainty() -> None:
    widths = [half_width(v, 0.1, 0.05) for v in (1.0, 0.1, 0.01, 0.001)]
    assert widths == sorted(widths, reverse=True)
    assert half_width(0.01, 0.1, 0.01) > half_width(0.01, 0.1, 0.05)
    assert half_width(0.01, 0.1, 0.05) == pytest.approx(0.1 * math.sqrt(4 * math.log(math.sqrt(2) / 0.05)))


def test_of_too_few_users_nothing_is_known() -> None:
    empty, some = np.zeros(CLUSTERS, np.int64), np.arange(CLUSTERS)
    few = np.where(np.arange(CLUSTERS) < 20, 100, 0)
    for arms in ((empty, empty, empty, empty), (some, some, few, few), (few, few, some, some)):
        d = difference(*arms, alpha=0.05)
        assert (d.low, d.high) == (-math.inf, math.inf)
    nothing = difference(some, empty, some, empty, alpha=0.05)
    assert (nothing.live, nothing.low, nothing.high) == (0.0, -math.inf, math.inf)
