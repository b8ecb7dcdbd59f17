"""Several learners make together the model that one would make of all examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from leaf_world import clicks, trained
from toy_clicks import happened

from headrace.models.features.spec import ONLINE_COLUMNS, SPEC
from headrace.models.learning.growth import Growth, together
from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaf_learner import LeafLearner
from headrace.models.learning.online_learner import OnlineLearner
from headrace.models.learning.rolling import losses


def growth(moved: float, squares: float) -> Growth:
    return Growth(np.array([moved]), np.array([squares]))


def test_small_moves_add_up_large_ones_are_averaged_and_one_alone_is_taken() -> None:
    assert together([growth(0.01, 1e-6)] * 4, 1.0) == pytest.approx(0.04, rel=1e-4)
    assert together([growth(0.5, 1e3)] * 4, 1.0) == pytest.approx(0.5)
    assert together([growth(0.5, 1.0)], 1.0) == 0.5
    assert together([growth(0.3, 50.0), growth(0.0, 0.0)], 1.0) == pytest.approx(0.3), "only one saw it"
    both = together([growth(0.4, 1.0), growth(0.2, 1.0)], 1.0)
    assert 0.3 < float(both[0]) < 0.6
    assert together([growth(0.0, 0.0)] * 2, 1.0) == 0.0


def correlated(n: int, seed: int) -> tuple[Any, Any, Ids]:
    """Return rows of correlated columns, clicks that depend on them and on user and item, and ids."""
    world, rng = np.random.default_rng(1), np.random.default_rng(seed)
    mix, taste = world.standard_normal((12, len(SPEC))), np.zeros(len(SPEC))
    taste[ONLINE_COLUMNS] = world.normal(0, 0.1, len(ONLINE_COLUMNS))
    of_user, of_item = world.normal(0, 0.7, 1000), world.normal(0, 0.7, 200)
    x = (rng.standard_normal((n, 12)) @ mix / 3.5).astype(np.float32)
    user, item = rng.integers(0, 1000, n), np.minimum(rng.geometric(0.03, n) - 1, 199)
    clicked = rng.random(n) < 1 / (1 + np.exp(-(x @ taste - 2.2 + of_user[user] + of_item[item])))
    keys = [k.astype(np.uint64) for k in (user * 7919 + 1, item * 104729 + 3, 0 * user, 0 * user)]
    return x, clicked, Ids(*keys)


def loss_of(learners: int, each: int, rounds: int) -> float:
    """Return the log-loss of the last rounds, before they are learnt, of learners that share the users."""
    merged, sharing, seen = OnlineLearner(), [OnlineLearner() for _ in range(learners)], []
    for number in range(rounds):
        x, clicked, ids = correlated(8 * each, number)
        seen.append(losses(merged.weights().predict(x, ids), clicked).mean())
        for k, learner in enumerate(sharing):
            mine = ids.users % np.uint64(learners) == k
            for part in np.array_split(np.flatnonzero(mine), max(1, mine.sum() // 512)):
                chosen = np.isin(np.arange(len(x)), part)
                for of in (chosen, chosen & clicked):
                    y = np.full(of.sum(), of is not chosen)
                    learner.learn(x[of], happened(y), ids.where(of), early=True)
        merged.grow([learner.take_part() for learner in sharing])
        for learner in sharing:
            learner.go_on_as(merged)
    return float(np.mean(seen[-rounds // 3 :]))


@pytest.mark.parametrize(("each", "rounds"), [(150, 18), (1500, 9)])
def test_eight_learners_are_about_as_good_as_one_with_few_examples_each_or_many(
    each: int, rounds: int
) -> None:
    one, eight = loss_of(1, each, rounds), loss_of(8, each, rounds)
    assert eight < one + 0.012


def test_leaves_of_four_learners_are_about_as_good_as_those_of_one() -> None:
    model = trained()

    def loss(learners: int) -> float:
        merged = LeafLearner(model.trees, model.version)
        sharing = [LeafLearner(model.trees, model.version) for _ in range(learners)]
        for number in range(10):
            x, clicked, ids = clicks(800, number, -1.0)
            for k, learner in enumerate(sharing):
                mine = np.arange(800) % learners == k
                learner.learn(x[mine], clicked[mine], ids.where(mine))
            merged.grow([learner.take_part() for learner in sharing])
            for learner in sharing:
                learner.go_on_as(merged)
        x, clicked, ids = clicks(4000, 99, -1.0)
        (raw,) = [merged.deltas()]
        values = model.trees.values.copy()
        values[model.trees.leaves] += raw.deltas
        sums = model.trees.sums(x, values) + raw.terms[ids.pair()].sum(1)
        return float(losses(model.trees.score(sums), clicked).mean())

    one, four, none = loss(1), loss(4), loss_without(model)
    assert one < none - 0.05
    assert four < none - 0.8 * (none - one)


def loss_without(model: Any) -> float:
    x, clicked, _ = clicks(4000, 99, -1.0)
    return float(losses(model.trees.score(model.trees.sums(x, model.trees.values)), clicked).mean())
