"""Scores of logged features by LightGBM itself are those of our kernel, with moved leaves too."""

from __future__ import annotations

import numpy as np
import pytest
from leaf_world import clicks, trained

from headrace.models.features.spec import POSITION, SPEC
from headrace.models.learning import leaves, parity, ranker
from headrace.models.learning.calibration import Calibration
from headrace.models.learning.hashed import SLOTS
from headrace.models.learning.leaves import LeafDeltas
from headrace.models.learning.objectives import Objective
from headrace.models.learning.ranker import Ranker, RankerParams


def of_two() -> Ranker:
    x, y, _ = clicks(2000, 1)
    texts = ranker.train_each(
        x, [y.astype(np.float32), (x[:, 5] > 0).astype(np.float32)], RankerParams(trees=9)
    )
    platt = Calibration("platt", (0.8, -0.2))
    return Ranker(
        [Objective("click", 0.7, texts[0], platt), Objective("like", 0.3, texts[1])], SPEC.names, "two"
    )


def moved(model: Ranker, seed: int = 2) -> leaves.MovedRanker:
    rng = np.random.default_rng(seed)
    assert model.trees is not None
    n = len(model.trees.leaves)
    deltas, terms = (rng.normal(size=k).astype(np.float32) / 9 for k in (n, SLOTS))
    found = leaves.moved(model, LeafDeltas(model.version, deltas, np.ones(n, np.float32), True, terms, "m"))
    assert found is not None
    return found


@pytest.mark.parametrize("make", [trained, of_two])
def test_lightgbm_gives_the_scores_that_serving_gave(make: object) -> None:
    model = make()  # type: ignore[operator]
    x, _, ids = clicks(300, 7)
    x[:, POSITION] = 0
    logged = x.copy()
    logged[:, POSITION] = np.arange(300) % 10
    assert parity.equal(parity.scores(model, logged), model.predict(x)).all()
    other = moved(model)
    assert parity.equal(parity.scores(model, logged, other, ids), other.predict(x, ids)).all()
    assert not parity.equal(parity.scores(model, logged), other.predict(x, ids)).any()


def test_one_feature_or_one_leaf_that_differs_is_seen() -> None:
    model = trained()
    x, _, ids = clicks(200, 3)
    x[:, POSITION] = 0
    wrong = x.copy()
    wrong[17, 3] = -wrong[17, 3]  # it decides in this world
    same = parity.equal(parity.scores(model, wrong), model.predict(x))
    assert np.flatnonzero(~same).tolist() == [17]
    found = moved(model)
    assert model.trees is not None
    first = model.trees.find(x)[:, 0]
    values = np.zeros(len(model.trees.leaves), np.float32)
    values[np.searchsorted(model.trees.leaves, first[0])] = 1e-4
    bent = leaves.moved(
        model, LeafDeltas(model.version, values, np.ones(len(values), np.float32), True, found.terms, "b")
    )
    straight = leaves.moved(
        model, LeafDeltas(model.version, 0 * values, np.ones(len(values), np.float32), True, found.terms, "s")
    )
    assert bent is not None
    assert straight is not None
    same = parity.equal(parity.scores(model, x, straight, ids), bent.predict(x, ids))
    assert (~same == (first == first[0])).all()


def test_no_rows_have_no_scores() -> None:
    assert len(parity.scores(trained(), np.zeros((0, len(SPEC)), np.float32))) == 0
