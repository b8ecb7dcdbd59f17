from __future__ import annotations

import numpy as np
import pytest

from headrace.models.learning.evaluation import auc, calibration_error, evaluate


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([0.1, 0.9]), np.array([False, True])) == 1.0
    assert auc(np.array([0.5, 0.5]), np.array([False, True])) == 0.5
    assert auc(np.array([0.9, 0.1]), np.array([False, True])) == 0.0


def test_list_metrics_by_hand() -> None:
    got = evaluate(
        np.array([0.9, 0.5, 0.1, 0.2, 0.3]),
        np.array([False, True, False, False, True]),
        np.array([0, 0, 0, 1, 1]),
    )
    assert got["list_auc"] == pytest.approx((1 / 2 + 1) / 2)
    assert got["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert got["ndcg_at_10"] == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_the_calibration_error_is_the_mean_distance_in_bins_of_equal_size() -> None:
    p = np.array([0.1] * 50 + [0.6] * 50)
    clicked = np.array([True] * 10 + [False] * 40 + [True] * 20 + [False] * 30)
    assert calibration_error(p, clicked, bins=2) == pytest.approx((0.1 + 0.2) / 2)
    assert calibration_error(p[:0], clicked[:0]) == 0


def test_equal_scores_gain_nothing_by_the_order_of_the_rows() -> None:
    clicked = np.tile([True, False, False, False], 4000)  # the first of each list, always
    got = evaluate(np.full(16_000, 0.25), clicked, np.repeat(np.arange(4000), 4))
    assert got["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=0.02)
    assert got["list_auc"] == 0.5
