from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import orjson
import pytest
from small_models import online_of_all
from toy_clicks import happened, ids_of, toy, trained

from headrace.models.features.spec import ONLINE_NAMES, SPEC
from headrace.models.learning import artefact, hashed, online
from headrace.models.learning.hashed import SLOTS, Ids
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.online_learner import OnlineLearner
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.ids import hash64


@pytest.fixture(scope="module")
def learner() -> OnlineLearner:
    out = trained()
    x, y = toy(200, 3)
    out.learn(x, happened(y), ids_of(200))
    return out


READ = {"impressions": {0: 7, 3: 9}, "events": {1: 2}}


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


def test_extreme_inputs_give_probabilities_and_no_warnings() -> None:
    n = len(ONLINE_NAMES)
    loud = OnlineWeights(np.zeros(n, np.float32), np.ones(n, np.float32), np.full(n, 50, np.float32), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (-1e30, 0, 1e30):
            p = loud.predict(np.full((2, len(SPEC)), value, np.float32))
            assert ((p >= 0) & (p <= 1)).all()


def test_no_rows_to_score(learner: OnlineLearner) -> None:
    assert learner.weights().predict(np.zeros((0, len(SPEC)), np.float32)).shape == (0,)


def test_weights_survive_the_topic(learner: OnlineLearner) -> None:
    weights = learner.weights()
    value, version = online.encode(weights, 5, learner.quality(), READ)
    loaded = online.decode(value)
    assert online.read_up_to(value) == (READ, 5)
    x, _ = toy(100, 8)
    np.testing.assert_array_equal(loaded.predict(x), weights.predict(x))
    ids = ids_of(100, 3)
    np.testing.assert_allclose(loaded.predict(x, ids), weights.predict(x, ids), atol=1e-3)
    assert np.any(weights.predict(x, ids) != weights.predict(x))
    assert loaded.version == version
    assert online.encode(loaded, 9, {}, READ)[1] == version
    assert online.read_up_to(online.encode(loaded, 9, {})[0]) == ({}, 9), "an older version does not say it"


def body(**changes: Any) -> bytes:
    n = len(ONLINE_NAMES)
    return orjson.dumps({"mean": [0.0] * n, "scale": [1.0] * n, "weights": [0.5] * n, "bias": 0.1, **changes})


def head(**changes: Any) -> dict[str, Any]:
    n = len(ONLINE_NAMES)
    whole = {"weights": [0.5] * n, "bias": 0.1, "squares": [1.0] * (n + 1), "terms": "", "happened": 3}
    return {**whole, **changes}


def test_all_objectives_survive_the_topic() -> None:
    weights = online_of_all()
    value, _ = online.encode(weights, 5, {"auc": 0.7, "like_auc": 0.6}, READ)
    loaded, x, ids = online.decode(value), toy(100, 8)[0], ids_of(100, 3)
    was, now = weights.foreseen(x, ids), loaded.foreseen(x, ids)
    assert list(now) == ["click", "long_view", "like"]
    for name in now:
        np.testing.assert_allclose(now[name], was[name], atol=1e-3)
    np.testing.assert_array_equal(now["click"], loaded.predict(x, ids))
    assert np.abs(now["like"] - now["long_view"]).max() > 0.01
    assert {name: one.happened for name, one in loaded.heads.items()} == {"long_view": 60, "like": 9}
    assert (loaded.shares, loaded.quality) == (weights.shares, {"auc": 0.7, "like_auc": 0.6})
    assert online.read_up_to(value) == (READ, 5)


def test_a_score_is_the_sum_of_the_objectives_by_their_shares() -> None:
    weights = online_of_all()
    found = weights.foreseen(toy(50)[0])
    by = weights.by_objective(found)
    want = 0.3 * by["click"] + 0.5 * by["long_view"] + 0.2 * by["like"]
    np.testing.assert_allclose(weights.together(by), want)
    old = dataclasses.replace(weights, heads={}, shares={})
    np.testing.assert_array_equal(old.together(old.by_objective(found)), found["click"].astype(np.float64))


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
        body(squares=[1.0]),
        body(squares=[0.0] * (len(ONLINE_NAMES) + 1)),
        body(terms="A"),
        body(terms="AAAA"),
        body(terms=hashed.pack(np.full(SLOTS, np.nan))),
        body(heads={"like": head(weights=[0.5])}),
        body(heads={"like": head(bias="x")}),
        body(heads={"like": head(squares=[0.0] * (len(ONLINE_NAMES) + 1))}),
        body(heads={"like": head(terms="AAAA")}),
        body(heads={"like": head(happened=-1)}),
        body(heads={"like": {}}),
        body(heads={"click": head()}),
        body(heads={"like": head()}, shares={"long_view": 0.5}),
        body(shares={"click": 0.0}),
        body(shares={"click": 1.5}),
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


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({}, True),
        ({"bias": float("nan")}, False),
        ({"weights": np.full(len(ONLINE_NAMES), np.inf, np.float32)}, False),
        ({"mean": np.full(len(ONLINE_NAMES), np.nan, np.float32)}, False),
        ({"scale": np.zeros(len(ONLINE_NAMES), np.float32)}, False),
        ({"terms": np.full(SLOTS, np.nan, np.float32)}, False),
        ({"squares": np.zeros(len(ONLINE_NAMES) + 1, np.float32)}, False),
    ],
)
def test_only_finite_weights_are_sound(learner: OnlineLearner, change: dict[str, Any], fine: bool) -> None:
    assert online.sound(dataclasses.replace(learner.weights(), **change)) is fine


@pytest.mark.parametrize(
    "change",
    [
        {"bias": float("inf")},
        {"weights": np.full(len(ONLINE_NAMES), np.nan, np.float32)},
        {"terms": np.full(SLOTS, np.nan, np.float32)},
        {"squares": np.zeros(len(ONLINE_NAMES) + 1, np.float32)},
    ],
)
def test_every_objective_must_be_finite(change: dict[str, Any]) -> None:
    weights = online_of_all()
    assert online.sound(weights)
    weights.heads["like"] = dataclasses.replace(weights.heads["like"], **change)
    assert not online.sound(weights)


def test_a_model_of_an_older_version_has_no_terms() -> None:
    value, _ = artefact.encode("online", "logistic", body(), ONLINE_NAMES, 1, {})
    loaded = online.decode(value)
    x, _ = toy(10)
    np.testing.assert_array_equal(loaded.predict(x, ids_of(10)), loaded.predict(x))
    assert (loaded.squares == 1).all()
    assert (loaded.heads, loaded.shares) == ({}, {})


def test_of_a_model_of_a_later_version_the_objectives_that_are_known_count() -> None:
    heads, shares = {"hate": head(), "like": head(happened=3)}, {"click": 0.3, "hate": 0.3, "like": 0.2}
    value, _ = artefact.encode("online", "logistic", body(heads=heads, shares=shares), ONLINE_NAMES, 1, {})
    loaded = online.decode(value)
    assert {name: one.happened for name, one in loaded.heads.items()} == {"like": 3}
    assert loaded.shares == {"click": 0.3, "like": 0.2}


def test_the_ids_of_a_request_are_those_of_its_examples() -> None:
    keys = np.array([hash64(f"i{n}") for n in range(4)], np.uint64)
    asked = Ids.of_request("u1", "de", "tv", keys)
    logged = Ids(*(np.array([hash64(t)] * 4, np.uint64) for t in ("u1", "", "de", "tv")))
    logged = dataclasses.replace(logged, items=keys)
    np.testing.assert_array_equal(asked.terms(), logged.terms())
    assert asked.terms().shape == (4, 4)
    table = np.random.default_rng(1).standard_normal(SLOTS).astype(np.float32)
    for ids in (asked, logged):
        np.testing.assert_array_equal(ids.sums(table), table[ids.terms()].sum(1))
    with pytest.raises(ValueError, match="2 ids for 4 items"):
        Ids(asked.items[:2], asked.items, asked.countries, asked.devices).sums(table)
    with pytest.raises(ValueError, match="a table of 8 slots"):
        asked.sums(table[:8])
    assert len(np.unique(asked.terms()[:, 1:])) == 12
    np.testing.assert_array_equal(asked.pair(), asked.terms()[:, :2])
