"""The error budget: an objective, the probes of a window, and what may still be bad."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.error_budget import STEPS, ErrorBudget


def test_nothing_is_known_before_the_first_probe() -> None:
    budget = ErrorBudget(0.99, 3600)
    assert budget.good(0) is None
    assert budget.left(0) is None


@pytest.mark.parametrize(("bad", "left"), [(0, 1.0), (1, 0.5), (2, 0.0), (4, -1.0)])
def test_the_budget_is_what_may_be_bad(bad: int, left: float) -> None:
    budget = ErrorBudget(0.99, 3600)
    for n in range(200):
        budget.note(float(n), good=n >= bad)
    assert budget.good(200) == pytest.approx(1 - bad / 200)
    assert budget.left(200) == pytest.approx(left)


def test_what_is_older_than_the_window_counts_no_more() -> None:
    budget = ErrorBudget(0.9, 960)
    budget.note(5, good=False)
    budget.note(600, good=True)
    assert budget.good(900) == 0.5
    assert budget.good(970) == 1.0
    assert budget.left(970) == 1.0
    assert budget.good(10_000) is None


@given(st.lists(st.tuples(st.floats(0, 50), st.booleans()), max_size=60), st.floats(0.5, 0.999))
def test_it_is_the_share_of_the_newest_steps(probes: list[tuple[float, bool]], objective: float) -> None:
    budget, now, noted = ErrorBudget(objective, 2.0 * STEPS), 0.0, list[tuple[int, bool]]()
    for pause, good in probes:
        now += pause
        budget.note(now, good=good)
        noted.append((int(now / 2), good))
    left = [good for step, good in noted if step > int(now / 2) - STEPS]
    assert budget.good(now) == (sum(left) / len(left) if left else None)
