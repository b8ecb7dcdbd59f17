"""What a user's past says of the categories that they like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from feature_inputs import shown_of, user_of
from strategies import T0, Act

from headrace.models.features.history import TIMES, evidence
from headrace.models.state.users import RECENT
from headrace.streams.settings import MINUTE_MS

CLICK = float(np.log(TIMES))


def clicks(*items: int) -> Any:
    return user_of(*(Act(1, item, "click", T0 - 50 * MINUTE_MS + k) for k, item in enumerate(items)))


def test_nothing_is_known_of_nobody() -> None:
    items, weights = evidence(None, None)
    assert len(items) == 0
    assert weights.shape == (2, 0)


def test_the_newest_click_counts_most_and_the_short_memory_fades_sooner() -> None:
    items, (long, short) = evidence(clicks(5, 6, 7, 8), None)
    assert items.tolist() == [8, 7, 6, 5]
    assert long == pytest.approx(CLICK * 0.5 ** (np.arange(4) / 12), rel=1e-6)
    assert short == pytest.approx(CLICK * 0.5 ** (np.arange(4) / 3), rel=1e-6)


def test_what_was_shown_without_a_click_speaks_against_its_category() -> None:
    items, (long, short) = evidence(clicks(5), shown_of([4, 5, 6], [7, 4]))
    assert items.tolist() == [5, 4, 7, 6], "the click, then the rest: the last showing first"
    assert long[0] == pytest.approx(CLICK)
    rate = 2 / (1 + 4 + 15)  # one of five showings was clicked
    a_showing = -rate * (TIMES - 1) / TIMES
    newer = np.array([0, 2, 3])
    assert long[1:] == pytest.approx(a_showing * np.array([2, 1, 1]) * 0.5 ** (newer / 120), rel=1e-6)
    assert short[1:] == pytest.approx(a_showing * np.array([2, 1, 1]) * 0.5 ** (newer / 30), rel=1e-6)


def test_what_was_shown_before_the_oldest_known_click_may_have_been_clicked() -> None:
    many = [100 + k for k in range(RECENT + 1)]
    before, after = T0 - 55 * MINUTE_MS, T0 - 45 * MINUTE_MS
    items, _ = evidence(clicks(*many), shown_of([1, 2], first=before))
    assert not {1, 2} & set(items.tolist())
    items, _ = evidence(clicks(*many), shown_of([1, 2], first=after))
    assert {1, 2} <= set(items.tolist())
    items, _ = evidence(clicks(*many[:RECENT]), shown_of([1, 2], first=before))
    assert {1, 2} <= set(items.tolist()), "all clicks are known"
