from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.rerank.beliefs import own_rates, rates_in
from headrace.serving.rerank.priors import prior_rates

BEGIN = (1.0, 20.0)
items = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 200), st.integers(0, 3), st.integers(0, 3)), max_size=12
)


@given(items, st.data())
def test_a_prior_is_that_of_the_others_from_the_general_to_the_special(
    told: list[tuple[int, ...]], data: st.DataObject
) -> None:
    n = len(told)
    clicks, shown, category, creator = np.array(told, np.int64).reshape(n, 4).T
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), unique=True)) if n else [], np.int64)
    got = prior_rates(
        clicks.astype(float), shown.astype(float), category.astype(np.uint64), creator.astype(np.uint64),
        np.isin(np.arange(n), places), BEGIN,
    )  # fmt: skip
    assert not np.delete(got, places).any()
    got = got[places]
    for place, rate in zip(places.tolist(), got.tolist(), strict=True):
        expected = 1 / 21
        for ids in (np.ones(n), category, creator):
            if not ids[place]:
                continue
            others = [k for k in range(n) if k != place and ids[k] == ids[place]]
            c, s = sum(min(clicks[k], shown[k]) for k in others), sum(shown[k] for k in others)
            expected = (c + 21 * expected) / (s + 21)
        assert rate == pytest.approx(expected)


def test_an_items_own_counts_move_its_rate_by_their_number() -> None:
    rate = own_rates(np.full(3, 0.1), np.array([0.0, 10, 900]), np.array([0.0, 20, 1000]), 20)
    assert rate.tolist() == pytest.approx([0.1, 12 / 40, 902 / 1020])


def test_clicks_in_a_place_move_the_whole_category_there() -> None:
    rate, category = np.full(4, 0.1), np.array([1, 1, 2, 2], np.uint64)
    moved = rates_in(rate, category, np.array([30.0, 0, 0, 0]), np.array([100.0, 0, 100, 0]), 20)
    assert moved[0] > moved[1] > 0.1 > moved[3] > moved[2]
    assert moved[1] == pytest.approx(0.1 * 40 / 20)
    assert rates_in(rate, category, np.zeros(4), np.zeros(4), 20).tolist() == rate.tolist()
