from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slates import candidates, made, shown


def test_slots_are_kept_where_too_few_have_been_shown() -> None:
    # A fifth of 10 slots: one of the first five, two of all.
    choices = candidates(np.arange(20.0)[::-1], tail=[False] * 15 + [True] * 5)
    slate = made(choices, 10, tail_share=0.2)
    assert slate.chosen.tolist() == [0, 1, 2, 3, 15, 4, 5, 6, 7, 16]
    assert slate.reasons == ["", "", "", "", "long_tail", "", "", "", "", "long_tail"]
    assert not slate.explored.any()
    assert (slate.propensity == 1).all()


def test_items_that_are_good_enough_count() -> None:
    choices = candidates(np.arange(20.0)[::-1], tail=[True, True, *[False] * 18])
    slate = made(choices, 10, tail_share=0.2)
    assert slate.chosen.tolist() == list(range(10))
    assert slate.reasons == [""] * 10


def test_an_item_that_would_be_there_anyway_has_no_reason() -> None:
    choices = candidates([5.0, 4, 3, 2], tail=[False, True, False, True])
    assert made(choices, 4, tail_share=0.5).reasons == ["", "", "", ""]


def test_a_slot_is_not_left_empty() -> None:
    choices = candidates([5.0, 4, 3, 2], tail=[False, False, True, False])
    assert shown(choices, 4, tail_share=1) == [2, 0, 1, 3]


def test_quotas_are_stronger() -> None:
    choices = candidates([5.0, 4, 3, 2], tail=[True, False, True, True], creator=[1, 2, 1, 1])
    assert shown(choices, 2, tail_share=1, creator_at_most=1) == [0, 1]


@pytest.mark.parametrize(("n", "least"), [(1, 1), (5, 1), (6, 2), (10, 2), (20, 4)])
def test_the_share_is_rounded_up(n: int, least: int) -> None:
    choices = candidates(np.arange(40.0)[::-1], tail=[False] * 30 + [True] * 10)
    assert sum(i >= 30 for i in shown(choices, n, tail_share=0.2)) == least


@given(
    st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 30), st.sampled_from([0.1, 0.34, 1.0])
)
def test_every_beginning_of_a_list_has_its_part(tail: list[bool], n: int, share: float) -> None:
    choices = candidates(np.arange(len(tail)), tail=tail)
    n = min(n, len(tail))
    chosen = shown(choices, n, tail_share=share, epsilon=0.2)
    total = int(np.ceil(share * n - 1e-9))
    for k in range(1, n + 1):
        assert sum(tail[i] for i in chosen[:k]) >= min(sum(tail), total * k // n)
