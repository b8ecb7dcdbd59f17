from __future__ import annotations

import numpy as np
import pytest
from feature_inputs import candidates, context, of
from strategies import T0, unit_vectors

from headrace.models.features.assemble import assemble
from headrace.models.state.items import ItemState
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.settings import MINUTE_MS


def test_pairs_and_ranks() -> None:
    c = candidates(
        3,
        next_score=np.array([2, 0, 6], np.float32),
        next_share=np.array([0.25, 0, 0.75], np.float32),
        together=np.array([1, 3, 0], np.float32),
        country_clicks=np.array([1, 0, 3], np.float32),
    )
    out = assemble(None, c, context(country=9))
    assert of(out, "next_score") == pytest.approx(np.log1p([2, 0, 6]))
    assert of(out, "next_rank") == [2, 0, 1]
    assert of(out, "together_rank") == [2, 1, 0]
    assert of(out, "next_share") == [0.25, 0, 0.75]
    assert of(out, "country_clicks_1h") == pytest.approx(np.log1p([1, 0, 3]))
    assert of(out, "country_share_1h") == [0.25, 0, 0.75]


def test_the_prior_is_the_sum_of_what_was_clicked_lately() -> None:
    clicks = np.zeros(4, ITEM_EVENT)
    clicks["item"], clicks["amount"], clicks["kind"] = [1, 2, 2, 3], 1, KIND["click"]
    clicks["ts"] = T0 - np.array([20, 1, 1, 1]) * MINUTE_MS
    stats = ItemState()
    stats.apply(clicks, np.arange(4))
    c = candidates(
        3,
        stats,
        next_share=np.array([1, 0, 0], np.float32),  # pairs of days have no part in it
        together=np.array([9, 0, 0], np.float32),
        next_recent=np.array([0, 0.25, 0.75], np.float32),
        together_recent=np.array([0, 1, 3], np.float32),
    )
    out = assemble(None, c, context())
    popular = np.array([0.25, 0.5, 0.25]) + [0, 2 / 3, 1 / 3]  # of an hour, and of its last quarter
    assert of(out, "prior_lately") == pytest.approx(np.array([0, 0.5, 1.5]) + popular, rel=1e-5)
    assert of(out, "prior_lately_rank") == [3, 2, 1]


def test_vectors() -> None:
    vectors = unit_vectors(3, 3)
    out = assemble(None, candidates(3), context(user_vector=vectors[0], last_vector=-vectors[2]))
    assert of(out, "vector_user")[0] == pytest.approx(1)
    assert of(out, "vector_last")[2] == pytest.approx(-1)
