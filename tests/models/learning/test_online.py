from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.features.spec import ONLINE_COLUMNS, ONLINE_NAMES, SPEC
from headrace.models.learning import artefact, online
from headrace.models.learning.online import CLIP, OnlineLearner, OnlineWeights
from headrace.streams.errors import ArtefactError

FIRST = int(ONLINE_COLUMNS[0])


def toy(n: int, seed: int = 0) -> tuple[Any, Any]:
    """Clicks follow three columns of very different scale."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, len(SPEC))).astype(np.float32)
    logit = 2 * x[:, FIRST] - 2 * x[:, ONLINE_COLUMNS[7]] + x[:, ONLINE_COLUMNS[9]] - 1
    x[:, ONLINE_COLUMNS[7]] = 1000 * x[:, ONLINE_COLUMNS[7]] + 5000
    return x, rng.random(n) < 1 / (1 + np.exp(-logit))


def trained(n: int = 3000, seed: int = 0) -> OnlineLearner:
    learner = OnlineLearner()
    x, y = toy(n, seed)
    for start in range(0, n, 250):
        learner.learn(x[start : start + 250], y[start : start + 250])
    return learner


@pytest.fixture(scope="module")
def learner() -> OnlineLearner:
    return trained()


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


def test_served_scores_are_rivers_own(learner: OnlineLearner) -> None:
    x, _ = toy(300, 2)
    weights = learner.weights()
    mean, scale = learner._moments()
    z = np.clip((x[:, ONLINE_COLUMNS].astype(np.float64) - mean) / scale, -CLIP, CLIP)
    table = pa.table({n: z[:, i] for i, n in enumerate(ONLINE_NAMES)})
    theirs = learner._model.predict_proba_many(table)
    column = np.asarray(
        theirs.column(theirs.column_names.index("true") if "true" in theirs.column_names else 1)
    )
    np.testing.assert_allclose(weights.predict(x), column, atol=2e-5)


def test_rivers_scaler_agrees(learner: OnlineLearner) -> None:
    x, _ = toy(50, 3)
    online_part = x[:, ONLINE_COLUMNS].astype(np.float64)
    table = pa.table({n: online_part[:, i] for i, n in enumerate(ONLINE_NAMES)})
    theirs = learner._scaler.transform_many(table)
    mean, scale = learner._moments()
    for i, name in enumerate(ONLINE_NAMES):
        np.testing.assert_allclose(
            np.asarray(theirs.column(name)), (online_part[:, i] - mean[i]) / scale[i], rtol=1e-4, atol=1e-5
        )


@settings(max_examples=15)
@given(st.integers(0, 200), st.integers(0, 99))
def test_learning_leaves_its_input_alone(n: int, seed: int) -> None:
    x, y = toy(n, seed)
    x_before, y_before = x.copy(), y.copy()
    learner = OnlineLearner()
    learner.learn(x, y)
    learner.learn(x, y)
    learner.weights().predict(x)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(y, y_before)
    assert learner.seen == 2 * n


def test_predicting_never_grows_or_moves_the_model(learner: OnlineLearner) -> None:
    before = learner.weights()
    seen = learner.seen
    x, _ = toy(100, 5)
    for _ in range(3):
        before.predict(x)
        learner.weights().predict(x)
    after = learner.weights()
    np.testing.assert_array_equal(before.weights, after.weights)
    np.testing.assert_array_equal(before.mean, after.mean)
    assert learner.seen == seen


def test_nothing_learnt_yet() -> None:
    learner = OnlineLearner()
    x, y = toy(5)
    np.testing.assert_allclose(learner.weights().predict(x), 0.5)
    learner.learn(x[:0], y[:0])
    assert learner.seen == 0
    assert learner.quality() == {"auc": 0.5, "log_loss": 0, "examples": 0, "clicks": 0}


@pytest.mark.parametrize("truth", [True, False])
def test_one_outcome_only(truth: bool) -> None:
    learner = OnlineLearner()
    x, _ = toy(300)
    for _ in range(3):
        learner.learn(x, np.full(300, truth))
    p = learner.weights().predict(x)
    assert np.isfinite(p).all()
    assert (p.mean() > 0.55) if truth else (p.mean() < 0.45)
    assert all(np.isfinite(v) for v in learner.quality().values())


def test_constant_columns() -> None:
    learner = OnlineLearner()
    x, y = toy(400)
    x[:, ONLINE_COLUMNS[:5]] = 3.25
    learner.learn(x, y)
    p = learner.weights().predict(x)
    assert np.isfinite(p).all()
    x[:, ONLINE_COLUMNS[2]] = 1e6  # a constant that moves at last
    assert np.isfinite(learner.weights().predict(x)).all()
    learner.learn(x, y)
    assert np.isfinite(learner.weights().weights).all()


def test_one_row_at_a_time() -> None:
    learner = OnlineLearner()
    x, y = toy(60)
    for i in range(60):
        learner.learn(x[i : i + 1], y[i : i + 1])
    assert learner.seen == 60
    assert np.isfinite(learner.weights().predict(x)).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_poisoned_row_is_left_out(poison: float) -> None:
    x, y = toy(300)
    clean, poisoned = OnlineLearner(), OnlineLearner()
    keep = np.arange(300) != 17
    clean.learn(x[keep], y[keep])
    x[17, FIRST] = poison
    poisoned.learn(x, y)
    assert poisoned.seen == 299
    np.testing.assert_array_equal(poisoned.weights().weights, clean.weights().weights)


def test_extreme_inputs_give_probabilities_and_no_warnings() -> None:
    n = len(ONLINE_NAMES)
    loud = OnlineWeights(np.zeros(n, np.float32), np.ones(n, np.float32), np.full(n, 50, np.float32), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (-1e30, 0, 1e30):
            p = loud.predict(np.full((2, len(SPEC)), value, np.float32))
            assert ((p >= 0) & (p <= 1)).all()


def test_log_loss_is_a_mean_over_what_was_scored() -> None:
    learner = OnlineLearner()
    x, y = toy(200)
    learner.learn(x, y)
    p = np.clip(np.where(y, learner.weights().predict(x), 1 - learner.weights().predict(x)), 1e-6, 1)
    learner.learn(x, y)
    assert learner.quality()["log_loss"] == pytest.approx(float(-np.log(p).mean()), rel=1e-4)


def test_no_rows_to_score(learner: OnlineLearner) -> None:
    assert learner.weights().predict(np.zeros((0, len(SPEC)), np.float32)).shape == (0,)


def test_weights_survive_the_topic(learner: OnlineLearner) -> None:
    weights = learner.weights()
    value, version = online.encode(weights, 5, learner.quality(), {0: 7, 3: 9})
    loaded = online.decode(value)
    assert online.read_up_to(value) == ({0: 7, 3: 9}, 5)
    x, _ = toy(100, 8)
    np.testing.assert_array_equal(loaded.predict(x), weights.predict(x))
    assert loaded.version == version
    assert online.encode(loaded, 9, {}, {0: 7, 3: 9})[1] == version
    assert online.read_up_to(online.encode(loaded, 9, {})[0]) == ({}, 9), "an older version does not say it"


def body(**changes: Any) -> bytes:
    n = len(ONLINE_NAMES)
    return orjson.dumps({"mean": [0.0] * n, "scale": [1.0] * n, "weights": [0.5] * n, "bias": 0.1, **changes})


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        body(mean=[0.0]),
        body(weights=[0.5] * (len(ONLINE_NAMES) + 1)),
        body(scale=[0.0] * len(ONLINE_NAMES)),
        body(scale=[-1.0] * len(ONLINE_NAMES)),
        body(weights=["x"] * len(ONLINE_NAMES)),
        body(weights=[1e300] * len(ONLINE_NAMES)),
        body(bias=None),
    ],
)
def test_a_body_that_does_not_fit_is_refused(bad: bytes) -> None:
    value, _ = artefact.encode("online", "logistic", bad, ONLINE_NAMES, 1, {})
    with pytest.raises(ArtefactError):
        online.decode(value)


def test_another_feature_list_is_refused_naming_both() -> None:
    theirs = (*ONLINE_NAMES[:-1], "moon_phase")
    value, version = artefact.encode("online", "logistic", body(), theirs, 1, {})
    with pytest.raises(ArtefactError) as caught:
        online.decode(value)
    assert str(list(theirs)) in str(caught.value)
    assert str(list(ONLINE_NAMES)) in str(caught.value)
    assert version in str(caught.value)


def test_a_restarted_learner_goes_on_where_the_published_weights_are() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, len(SPEC))).astype(np.float32)
    clicked = rng.random(2000) < 1 / (1 + np.exp(-2 * x[:, 0]))
    first = OnlineLearner()
    first.learn(x, clicked)
    value, _ = online.encode(first.weights(), 0, first.quality())
    second = OnlineLearner()
    second.restore(online.decode(value), *online.learnt(value))
    assert second.seen == 2000
    assert np.allclose(second.weights().predict(x), first.weights().predict(x), atol=1e-4)
    second.learn(x[:5], clicked[:5])
    change = np.abs(second.weights().predict(x) - first.weights().predict(x)).mean()
    assert change < 0.1, "five examples must not undo two thousand"
    assert len(ONLINE_NAMES) == len(second.weights().weights)


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({}, True),
        ({"bias": float("nan")}, False),
        ({"weights": np.full(len(ONLINE_NAMES), np.inf, np.float32)}, False),
        ({"mean": np.full(len(ONLINE_NAMES), np.nan, np.float32)}, False),
        ({"scale": np.zeros(len(ONLINE_NAMES), np.float32)}, False),
    ],
)
def test_only_finite_weights_are_sound(learner: OnlineLearner, change: dict[str, Any], fine: bool) -> None:
    assert online.sound(dataclasses.replace(learner.weights(), **change)) is fine
