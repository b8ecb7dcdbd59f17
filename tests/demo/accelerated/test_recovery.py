"""How soon lists are good again: by hand, on made series."""

from __future__ import annotations

import pytest

from headrace.demo.accelerated.recovery import Recovery, recovery

USUAL = [0.1, 0.4, 0.5, 0.6]  # the last three count: 0.5


def found(after: list[float]) -> Recovery:
    out = recovery(USUAL + after, 10, 40)
    assert out is not None
    assert out.before == pytest.approx(0.5)
    return out


def test_half_of_the_loss_is_recovered_with_the_first_of_two_good_steps() -> None:
    # The worst is 0.3, so half-way back is 0.4: the third step after the shift and the one after it.
    assert found([0.35, 0.3, 0.4, 0.45, 0.5]) == Recovery(pytest.approx(0.5), 0.3, 30)


def test_one_lucky_step_does_not_count() -> None:
    assert found([0.3, 0.45, 0.35, 0.41, 0.42]).half_s == 40


def test_what_is_good_before_the_worst_step_does_not_count() -> None:
    assert found([0.49, 0.49, 0.3, 0.39, 0.41, 0.41]).half_s == 50


def test_a_loss_may_stay() -> None:
    assert found([0.3, 0.3, 0.31, 0.3, 0.5]).half_s is None  # nobody knows whether the last step is luck


@pytest.mark.parametrize(
    "series",
    [
        pytest.param([*USUAL, 0.6, 0.7, 0.8, 0.9], id="nothing was lost"),
        pytest.param([*USUAL, 0.3, 0.3, 0.3], id="too little after the shift"),
        pytest.param([], id="nothing"),
    ],
)
def test_without_a_loss_there_is_no_recovery(series: list[float]) -> None:
    assert recovery(series, 10, 40) is None


def test_a_shift_at_the_very_start_has_nothing_to_be_compared_with() -> None:
    assert recovery([0.5, 0.4, 0.3, 0.3, 0.5, 0.5, 0.5], 10, 20) is None
