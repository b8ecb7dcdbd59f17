"""Drift: the index by hand, the bins, and the feature that has moved is the first one named."""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import pytest

from headrace.models.features.spec import SPEC
from headrace.models.learning.histograms import LEAST_SHARE, LEFT_OUT, drift, histograms, load, psi, save


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, len(SPEC))).astype(np.float32)


def test_the_index_by_hand() -> None:
    by_hand = (0.6 - 0.5) * log(0.6 / 0.5) + (0.1 - 0.3) * log(0.1 / 0.3) + (0.3 - 0.2) * log(0.3 / 0.2)
    assert by_hand == pytest.approx(0.2785, abs=1e-4)
    assert psi([0.5, 0.3, 0.2], [0.6, 0.1, 0.3]) == pytest.approx(by_hand)
    assert psi([0.6, 0.1, 0.3], [0.5, 0.3, 0.2]) == pytest.approx(by_hand), "it is symmetric"
    assert psi([0.5, 0.5], [0.5, 0.5]) == 0
    empty = (1 - 0.5) * log(1 / 0.5) + (LEAST_SHARE - 0.5) * log(LEAST_SHARE / 0.5)
    assert psi([0.5, 0.5], [1, 0]) == pytest.approx(empty)


def test_bins_hold_equally_many_values_and_what_is_outside_has_its_own() -> None:
    x = np.zeros((1000, len(SPEC)), np.float32)
    x[:, 0] = np.arange(1000)
    x[:700, 1], x[700:, 1] = 0, np.arange(1, 301)
    x[:, 2] = 5
    found = histograms(x)
    assert found.rows == 1000
    first, zeros, constant = (found.features[SPEC.names[i]].shares for i in range(3))
    assert first == (0, *[0.1] * 10, 0)
    assert zeros[:3] == (0, 0.7, 0.1)
    assert constant == (0, 1, 0)
    for moved, place in ((4.99, 0), (5.01, 2)):
        x[:, 2] = moved
        (one,) = (d for d in drift(found, x) if d.feature == SPEC.names[2])
        assert one.served[place] == 1
        assert one.psi > 5


def test_rows_of_the_same_kind_have_not_moved() -> None:
    found = drift(histograms(rows(20_000)), rows(20_000, 1))
    assert len(found) == len(SPEC) - len(LEFT_OUT), "hours and weekdays follow the clock"
    assert found[0].psi < 0.01


def test_the_feature_that_moved_is_named_first() -> None:
    x = rows(5000, 1)
    x[:, SPEC.index("vector_user")] += 0.6
    for name in ("hour", "local_hour", "weekday"):
        x[:, SPEC.index(name)] += 9
    first, second, *_ = drift(histograms(rows(5000)), x)
    assert first.feature == "vector_user"
    assert first.psi > 0.25 > 0.05 > second.psi
    assert first.served[-2] > 2 * first.trained[-2]


def test_they_are_kept_beside_a_ranker(tmp_path: Path) -> None:
    found = histograms(rows(500))
    assert load(tmp_path) is None
    save(tmp_path, found)
    assert load(tmp_path) == found
    assert histograms(rows(0)).features == {}
    (tmp_path / "features.json").write_text("{")
    assert load(tmp_path) is None
