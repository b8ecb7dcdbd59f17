"""The online learner: its steps are river's, it goes on from what was published, and forgets old ids."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_clicks import FIRST, happened, ids_of, toy, trained

from headrace.models.features.spec import ONLINE_COLUMNS, SPEC
from headrace.models.learning import online
from headrace.models.learning.evaluation import auc
from headrace.models.learning.hashed import SLOTS
from headrace.models.learning.heads import HALF_LIFE, STEP, TERM_STEP
from headrace.models.learning.online_learner import Moments, OnlineLearner
from headrace.models.learning.steps import learn_linear


@pytest.fixture(scope="module")
def learner() -> OnlineLearner:
    return trained()


def test_the_steps_are_those_of_rivers_logistic_regression() -> None:
    from river import linear_model, optim

    rng = np.random.default_rng(4)
    x = rng.standard_normal((300, 5))
    clicked = rng.random(300) < 1 / (1 + np.exp(-2 * x[:, 0]))
    # river's bias takes plain steps: here a column of ones stands for it.
    theirs = linear_model.LogisticRegression(optim.AdaGrad(STEP, eps=1.0), intercept_lr=0.0)
    for row, y in zip(x, clicked, strict=True):
        theirs.learn_one(dict(enumerate([*row.tolist(), 1.0])), bool(y))
    weights, squares = np.zeros(6), np.ones(6)
    no_slots = np.zeros((300, 0), np.uint32)
    y = clicked.astype(np.uint8)
    learn_linear(x, no_slots, y, weights, squares, np.zeros(1), np.zeros(1), STEP, TERM_STEP, False)
    np.testing.assert_allclose(weights, [theirs.weights[i] for i in range(6)], rtol=1e-9)


def test_early_steps_are_taken_with_the_probabilities_from_before_each_block() -> None:
    """A block has 4 examples when nothing was learnt, and more when steps have become small: up to 256.

    Where outcomes are frequent, it is shorter.
    """
    rng = np.random.default_rng(6)
    n, begun = 600, ((1.0, 0.0, 4), (5000.0, 0.0, 600), (5000.0, -4.0, 600))
    x, y = rng.standard_normal((n, 3)), rng.random(n) < 0.2
    slots = rng.integers(0, 8, (n, 2)).astype(np.uint32)
    columns = np.column_stack([x, np.ones(n)])
    for squared, bias, end in begun:
        got = [np.array([0, 0, 0, bias]), np.full(4, squared), np.zeros(8), np.zeros(8)]
        weights, squares, table, table_squares = (numbers.copy() for numbers in got)
        learn_linear(x[:end], slots[:end], y[:end].astype(np.uint8), *got, STEP, TERM_STEP, True)
        first, sizes = 0, list[int]()
        while first < end:
            rate = 1 / (1 + np.exp(-weights[-1]))
            size = int(min(256, 4 * np.sqrt(squares[-1]), 8 / (rate * (1 - rate))))
            block = slice(first, min(first + size, end))
            first, sizes = block.stop, [*sizes, size]
            p = 1 / (1 + np.exp(-(columns[block] @ weights + table[slots[block]].sum(1))))
            slope = np.where(y[block], -1, p) * (1 - p**2)
            g = columns[block] * slope[:, None]
            sums = squares + np.cumsum(g**2, 0)
            weights, squares = weights - STEP * (g / np.sqrt(sums)).sum(0), sums[-1]
            for k in range(2):
                np.add.at(table, slots[block, k], -TERM_STEP * slope)
                np.add.at(table_squares, slots[block, k], slope**2)
        for ours, theirs in zip(got, (weights, squares, table, table_squares), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
        assert sizes[0] == (4 if squared == 1 else 32 if not bias else 256)


def test_the_moments_are_those_of_rivers_scaler() -> None:
    import pyarrow as pa
    from river import preprocessing

    rng, theirs, ours = np.random.default_rng(3), preprocessing.StandardScaler(), Moments(2)
    for n in (1, 7, 200):
        x = rng.standard_normal((n, 2)) * [1, 1000] + [5, 5000]
        theirs.learn_many(pa.table({"a": x[:, 0], "b": x[:, 1]}))
        ours.add(x)
    np.testing.assert_allclose(ours.mean, [theirs.means["a"], theirs.means["b"]])
    np.testing.assert_allclose(ours.var, [theirs.vars["a"], theirs.vars["b"]])


def test_a_slot_outside_of_the_table_changes_nothing() -> None:
    weights, table = np.zeros(3), np.zeros(4)
    with pytest.raises(ValueError, match="outside"):
        learn_linear(
            np.ones((2, 2)),
            np.array([[1], [4]], np.uint32),
            np.ones(2, np.uint8),
            weights,
            np.ones(3),
            table,
            np.zeros(4),
            STEP,
            TERM_STEP,
            False,
        )
    assert not weights.any()
    assert not table.any()


def test_ids_tell_what_features_cannot() -> None:
    rng, learner = np.random.default_rng(1), OnlineLearner()
    taste = rng.choice([-2.0, 2.0], 31)
    x = np.zeros((8000, len(SPEC)), np.float32)
    ids = ids_of(8000, 2)
    clicked = rng.random(8000) < 1 / (1 + np.exp(-taste[ids.items.astype(int)]))
    for start in range(0, 6000, 500):
        part = np.zeros(8000, bool)
        part[start : start + 500] = True
        learner.learn(x[part], happened(clicked[part]), ids.where(part))
    late = np.arange(8000) >= 6000
    weights = learner.weights()
    assert auc(weights.predict(x[late], ids.where(late)).astype(float), clicked[late]) > 0.8
    assert auc(weights.predict(x[late]).astype(float), clicked[late]) == 0.5


def test_ids_that_do_not_come_any_more_expire_and_the_table_keeps_its_size() -> None:
    learner = OnlineLearner()
    x, _ = toy(400)
    learner.learn(x, happened(np.ones(400, bool)), ids_of(400, users=3, items=3))
    before = learner.weights().terms
    others = ids_of(1000, 5)
    others = type(others)(
        others.users + np.uint64(100), others.items + np.uint64(100), others.countries, others.devices
    )
    old = np.setdiff1d(np.flatnonzero(before), others.terms())
    quiet = np.zeros((HALF_LIFE // 4, len(SPEC)), np.float32)
    for _ in range(8):
        learner.learn(quiet, happened(np.zeros(len(quiet), bool)))
    after = learner.weights().terms
    assert len(old) > 4
    np.testing.assert_allclose(after[old], before[old] / 4, rtol=1e-3)
    assert after.shape == (SLOTS,)


def test_the_model_does_not_get_worse_as_it_learns() -> None:
    x, y = toy(30_000, 6)
    learner, areas = OnlineLearner(), []
    for start in range(0, 30_000, 500):
        part = slice(start, start + 500)
        if start:
            areas.append(auc(learner.weights().predict(x[part]).astype(float), y[part]))
        learner.learn(x[part], happened(y[part]))
    early, late = np.mean(areas[:10]), np.mean(areas[-10:])
    assert late > early - 0.005


def test_a_change_of_tastes_is_noticed() -> None:
    x, y = toy(6000, 7)
    learner = OnlineLearner()
    for start in range(0, 6000, 500):
        learner.learn(x[start : start + 500], happened(y[start : start + 500]))
    calm = learner.quality()["drifts"]
    for start in range(0, 2000, 500):
        learner.learn(x[start : start + 500], happened(~y[start : start + 500]))
    assert learner.quality()["drifts"] > calm


def test_a_restarted_learner_takes_the_same_steps_as_one_that_went_on() -> None:
    x, y = toy(3000, 8)
    ids = ids_of(3000, 9)
    first, second = OnlineLearner(), OnlineLearner()
    early = np.arange(3000) < 2000
    first.learn(x[early], happened(y[early]), ids.where(early))
    value, _ = online.encode(first.weights(), 0, first.quality())
    second.restore(online.decode(value), *online.learnt(value))
    assert second.seen == 2000
    for learner in (first, second):
        learner.learn(x[~early], happened(y[~early]), ids.where(~early))
    p, q = (learner.weights().predict(x, ids) for learner in (first, second))
    np.testing.assert_allclose(p, q, atol=2e-3)  # terms are published in float16


def test_learns_what_can_be_learnt(learner: OnlineLearner) -> None:
    x, y = toy(2000, 1)
    p = learner.weights().predict(x)
    assert p[y].mean() > p[~y].mean() + 0.3
    assert abs(float(p.mean()) - float(y.mean())) < 0.1, "not calibrated"
    quality = learner.quality()
    assert quality["auc"] > 0.8
    assert 0 < quality["log_loss"] < 0.69
    assert quality["examples"] == 3000
    assert quality["clicks"] == learner.clicks


@settings(max_examples=15)
@given(st.integers(0, 200), st.integers(0, 99))
def test_learning_leaves_its_input_alone(n: int, seed: int) -> None:
    x, y = toy(n, seed)
    x_before, y_before = x.copy(), y.copy()
    learner = OnlineLearner()
    learner.learn(x, happened(y))
    learner.learn(x, happened(y))
    learner.weights().predict(x)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(y, y_before)
    assert learner.seen == 2 * n


def test_nothing_learnt_yet() -> None:
    learner = OnlineLearner()
    x, y = toy(5)
    np.testing.assert_allclose(learner.weights().predict(x), 0.5)
    learner.learn(x[:0], happened(y[:0]))
    assert learner.seen == 0
    nothing = {"auc": 0.5, "log_loss": 0, "calibration": 1, "drifts": 0}
    others = {f"{head}_{name}": value for head in ("long_view", "like") for name, value in nothing.items()}
    counts = {"examples": 0, "clicks": 0, "long_views": 0, "likes": 0}
    assert learner.quality() == nothing | others | counts


@pytest.mark.parametrize("truth", [True, False])
def test_one_outcome_only(truth: bool) -> None:
    learner = OnlineLearner()
    x, _ = toy(300)
    for _ in range(3):
        learner.learn(x, happened(np.full(300, truth)))
    p = learner.weights().predict(x)
    assert np.isfinite(p).all()
    assert (p.mean() > 0.55) if truth else (p.mean() < 0.45)
    assert all(np.isfinite(v) for v in learner.quality().values())


def test_constant_columns() -> None:
    learner = OnlineLearner()
    x, y = toy(400)
    x[:, ONLINE_COLUMNS[:5]] = 3.25
    learner.learn(x, happened(y))
    p = learner.weights().predict(x)
    assert np.isfinite(p).all()
    x[:, ONLINE_COLUMNS[2]] = 1e6  # a constant that moves at last
    assert np.isfinite(learner.weights().predict(x)).all()
    learner.learn(x, happened(y))
    assert np.isfinite(learner.weights().weights).all()


def test_one_row_at_a_time() -> None:
    learner = OnlineLearner()
    x, y = toy(60)
    for i in range(60):
        learner.learn(x[i : i + 1], happened(y[i : i + 1]))
    assert learner.seen == 60
    assert np.isfinite(learner.weights().predict(x)).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_poisoned_row_is_left_out(poison: float) -> None:
    x, y = toy(300)
    clean, poisoned = OnlineLearner(), OnlineLearner()
    keep = np.arange(300) != 17
    clean.learn(x[keep], happened(y[keep]))
    x[17, FIRST] = poison
    poisoned.learn(x, happened(y))
    assert poisoned.seen == 299
    np.testing.assert_array_equal(poisoned.weights().weights, clean.weights().weights)


def test_log_loss_is_a_mean_over_what_was_scored() -> None:
    learner = OnlineLearner()
    x, y = toy(200)
    learner.learn(x, happened(y))
    p = np.clip(np.where(y, learner.weights().predict(x), 1 - learner.weights().predict(x)), 1e-6, 1)
    learner.learn(x, happened(y))
    assert learner.quality()["log_loss"] == pytest.approx(float(-np.log(p).mean()), rel=1e-4)


def outcomes(n: int, seed: int) -> tuple[Any, Any]:
    """Return rows, and outcomes by objective: long views follow another column than clicks; no likes."""
    x, clicked = toy(n, seed)
    long = np.random.default_rng(seed).random(n) < 1 / (1 + np.exp(-2 * x[:, ONLINE_COLUMNS[3]] + 1))
    return x, np.stack([clicked, long, np.zeros(n, bool)], 1)


def test_each_objective_learns_what_is_its_own() -> None:
    learner = OnlineLearner()
    for seed in range(12):
        learner.learn(*outcomes(250, seed))
    x, y = outcomes(3000, 99)
    found = learner.weights().foreseen(x)
    areas = [[auc(found[of].astype(float), y[:, k]) for k in (0, 1)] for of in ("click", "long_view")]
    assert areas[0][0] > 0.8
    assert areas[1][1] > 0.8
    assert max(areas[0][1], areas[1][0]) < 0.6, "the other one's outcomes say nothing"
    assert found["like"].mean() < 0.1
    counts = learner.happened()
    assert (counts["like"], learner.seen) == (0, 3000)
    quality = learner.quality()
    assert quality["long_view_auc"] > 0.75
    assert quality["long_view_calibration"] == pytest.approx(1, rel=0.25)
    assert [quality[name] for name in ("clicks", "long_views", "likes")] == list(counts.values())


def test_what_comes_later_is_learnt_by_its_own_objective_and_counted_once() -> None:
    x, _ = toy(400, 3)
    learner, shown = OnlineLearner(), np.zeros((400, 3), bool)
    learner.learn(x, shown, early=True)
    before = learner.weights()
    late = np.zeros((50, 3), bool)
    late[:, 1] = True
    learner.learn(x[:50], late, early=True)
    after = learner.weights()
    np.testing.assert_array_equal(after.mean, before.mean)
    np.testing.assert_array_equal(after.weights, before.weights)
    np.testing.assert_array_equal(after.heads["like"].weights, before.heads["like"].weights)
    assert after.heads["long_view"].bias > before.heads["long_view"].bias
    assert learner.seen == 400
    assert learner.happened() == {"click": 0, "long_view": 50, "like": 0}
    part = learner.take_part()
    assert (part.seen, part.heads["long_view"].steps, part.heads["click"].steps) == (400, 450, 400)


def test_an_objective_has_a_share_when_it_has_enough_outcomes() -> None:
    learner, wanted = OnlineLearner(), {"click": 0.3, "long_view": 0.5, "like": 0.2}
    assert learner.shares(wanted, 50) == {}
    x, y = outcomes(400, 1)
    learner.learn(x, y)
    got = learner.shares(wanted, 50)
    assert got == {"click": pytest.approx(0.375), "long_view": pytest.approx(0.625)}
    assert learner.shares({"like": 1.0}, 1) == {}
    y[:60, 2] = True
    learner.learn(x, y)
    assert learner.shares(wanted, 50) == pytest.approx(wanted)


def test_a_learner_goes_on_from_all_objectives_and_from_a_record_of_clicks_alone() -> None:
    first, second, third = OnlineLearner(), OnlineLearner(), OnlineLearner()
    for seed in range(6):
        first.learn(*outcomes(250, seed))
    value, _ = online.encode(first.weights(), 0, first.quality())
    second.restore(online.decode(value), *online.learnt(value))
    assert second.happened() == first.happened()
    old = dataclasses.replace(first.weights(), heads={})
    value, _ = online.encode(old, 0, {"examples": 1500.0, "clicks": float(first.clicks)})
    third.learn(*outcomes(250, 50))
    third.restore(online.decode(value), *online.learnt(value))
    assert third.happened() == {"click": first.clicks, "long_view": 0, "like": 0}
    x, _ = outcomes(100, 7)
    want, got, anew = (learner.weights().foreseen(x) for learner in (first, second, third))
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=1e-4)
    np.testing.assert_allclose(anew["click"], want["click"], atol=1e-4)
    assert (anew["long_view"] == 0.5).all(), "it begins anew"
    third.learn(*outcomes(250, 51))
    assert third.happened()["long_view"] > 0
