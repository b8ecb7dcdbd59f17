"""Lifts: how much more often than others a user is likely to click a category."""

from __future__ import annotations

import numpy as np
import pytest
from feature_inputs import candidates, context, of, user_of
from strategies import T0, Act

from headrace.models.features.assemble import assemble
from headrace.models.features.history import TIMES, History

LIFTS = ("category_lift", "category_lift_now")
CATEGORIES = np.array([1, 2, 3, 0], np.uint64)


def past(category: list[int], *evidence: list[float]) -> History:
    return History(np.array(category, np.uint64), np.array(evidence, np.float32))


def lift(odds: float) -> float:
    """Return the lift by the formula of the docstring: the expected rate against that of the beginning."""

    def expected(log_odds: float) -> float:
        liked = 1 / (1 + np.exp(-log_odds))
        return float(1 + liked * (TIMES - 1))

    return float(np.log(expected(odds - np.log(15)) / expected(-np.log(15))))


def test_the_evidence_of_a_category_adds_up() -> None:
    ctx = context(history=past([2, 1, 2, 0], [1.5, -1, 0.5, 9], [0, -2, 3, 9]))
    out = assemble(None, candidates(4, category=CATEGORIES), ctx)
    assert of(out, LIFTS[0]) == pytest.approx([lift(-1), lift(2), 0, 0], abs=1e-6)
    assert of(out, LIFTS[1]) == pytest.approx([lift(-2), lift(3), 0, 0], abs=1e-6)
    assert lift(2) > 0 > lift(-1)
    sums = np.log(of(out, "item_ctr_24h")) + of(out, LIFTS[0])
    assert of(out, "taste_prior") == pytest.approx(sums.tolist(), rel=1e-5)


def test_clicks_and_showings_of_a_category_are_told_apart() -> None:
    ctx = context(history=past([2, 1, 2, 2, 0], [1.5, -1, 0.5, -0.75, 9], [9, 9, 9, 9, 9]))
    out = assemble(None, candidates(4, category=CATEGORIES), ctx)
    clicked, passed = np.log1p([0, 2, 0, 0]), np.log1p([1, 0.75, 0, 0])
    assert of(out, "category_clicked") == pytest.approx(clicked.tolist())
    assert of(out, "category_passed") == pytest.approx(passed.tolist(), abs=1e-6)
    assert of(out, "category_rate") == pytest.approx((clicked - passed).tolist(), abs=1e-6)


def test_without_a_past_nothing_is_lifted() -> None:
    out = assemble(None, candidates(4, category=CATEGORIES), context())
    for name in LIFTS:
        assert of(out, name) == pytest.approx([0] * 4, abs=1e-6)


def test_what_a_user_names_as_preferred_lifts_it_and_lowers_the_rest() -> None:
    user = user_of(Act(1, 9, "skip", T0))
    user["preferred"][0, 0] = 2
    long, now = (of(assemble(user, candidates(4, category=CATEGORIES), context()), name) for name in LIFTS)
    assert long == pytest.approx([lift(-1.5), lift(3), lift(-1.5), 0], abs=1e-6)
    assert now == pytest.approx([0] * 4, abs=1e-6)
    user["preferred"][0, 0] = 0
    assert of(assemble(user, candidates(4, category=CATEGORIES), context()), LIFTS[0]) == pytest.approx(
        [0] * 4, abs=1e-6
    )


def test_the_strongest_evidence_is_finite() -> None:
    ctx = context(history=past([1, 2], [80, -80], [80, -80]))
    out = assemble(None, candidates(4, category=CATEGORIES), ctx)
    assert np.isfinite(out).all()
    assert of(out, LIFTS[0])[0] == pytest.approx(np.log(TIMES / (1 + (TIMES - 1) / 16)), rel=1e-5)
