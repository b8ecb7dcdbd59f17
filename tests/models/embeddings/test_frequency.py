from __future__ import annotations

import numpy as np

from headrace.models.embeddings.frequency import ClickGaps, Sightings


def keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def test_the_estimate_converges_to_the_true_share() -> None:
    rng = np.random.default_rng(1)
    shares = np.array([0.5, 0.2, 0.1, 0.05] + [0.15 / 50] * 50)
    gaps = ClickGaps(rate=0.02)
    estimates = []
    for turn in range(600):
        gaps.count(keys(*(1 + rng.choice(len(shares), 256, p=shares))))
        if turn >= 100:
            estimates.append(np.exp(-gaps.log_share(keys(*range(1, 55)))))
    mean_gap = np.mean(estimates, axis=0)
    clicks = 256 * 500 * shares
    assert (np.abs(mean_gap * shares - 1) < 4 / np.sqrt(clicks)).all()  # four standard errors of the clicks
    assert abs(float(mean_gap[4:].mean()) * shares[4] - 1) < 0.02


def test_it_follows_a_share_that_changes() -> None:
    gaps = ClickGaps()
    gaps.count(keys(*[1, 2, 3, 4] * 500))
    assert abs(np.exp(gaps.log_share(keys(1)))[0] - 1 / 4) < 1e-3
    gaps.count(keys(*[1, *range(5, 104)] * 60))
    assert abs(np.exp(gaps.log_share(keys(1)))[0] - 1 / 100) < 1e-3


def test_how_the_clicks_are_cut_does_not_matter() -> None:
    clicks = keys(*np.random.default_rng(2).zipf(1.5, 2000).clip(1, 50))
    whole, parts = ClickGaps(bits=5), ClickGaps(bits=5)
    whole.count(clicks)
    for start in range(0, len(clicks), 7):
        parts.count(clicks[start : start + 7])
    np.testing.assert_array_equal(whole.gap, parts.gap)
    np.testing.assert_array_equal(whole.last, parts.last)


def test_every_click_is_counted_as_one_after_the_other() -> None:
    clicks = np.random.default_rng(3).integers(1, 6, 300)
    gaps = ClickGaps(rate=0.1, hashes=1)
    gaps.count(keys(*clicks))
    for key in range(1, 6):
        mean, last = 0.0, 0
        for n, at in enumerate(np.flatnonzero(clicks == key) + 1):
            if n:
                mean += max(0.1, 1 / n) * ((at - last) - mean)
            last = at
        assert abs(np.exp(-gaps.log_share(keys(key)))[0] - mean) < 1e-3 * mean


def test_what_was_seen_once_or_never_is_as_rare_as_can_be_told() -> None:
    gaps = ClickGaps(longest=1000)
    assert gaps.log_share(keys(1))[0] == 0
    gaps.count(keys(1, 2, 2))
    np.testing.assert_allclose(gaps.log_share(keys(1, 9)), -np.log(4), rtol=1e-6)
    gaps.count(keys(*range(10, 5000)))
    np.testing.assert_allclose(gaps.log_share(keys(1, 9)), -np.log(1000), rtol=1e-6)


def test_keys_that_share_slots_do_not_look_more_common_than_the_rarer_array_says() -> None:
    gaps = ClickGaps(bits=6, hashes=4)
    rng = np.random.default_rng(4)
    gaps.count(keys(*rng.integers(1, 40, 20_000)))
    estimates = np.exp(-gaps.log_share(keys(*range(1, 40))))
    assert np.median(estimates) > 0.7 * 39


def test_sightings_are_counted() -> None:
    seen = Sightings()
    assert seen.add(keys(1, 2), np.array([1, 3])).tolist() == [1, 3]
    assert seen.add(keys(1, 2, 3), np.array([1, 1, 1])).tolist() == [2, 4, 1]
    assert seen.add(keys(2), np.array([1000])).tolist() == [255]


def test_sightings_are_never_too_few_while_the_sketch_is_young() -> None:
    seen, true = Sightings(bits=8), np.zeros(100, np.int64)
    rng = np.random.default_rng(5)
    for _ in range(20):
        picked = np.unique(rng.integers(0, 100, 10))
        true[picked] += 1
        assert (seen.add(keys(*(1 + picked)), np.ones(len(picked), np.int64)) >= true[picked]).all()


def test_old_sightings_fade() -> None:
    seen = Sightings(bits=8)
    seen.add(keys(1), np.array([8]))
    for key in range(100, 100 + 256):
        seen.add(keys(key), np.array([1]))
    assert seen.add(keys(1), np.array([0]))[0] < 8
