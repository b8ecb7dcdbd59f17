"""Leaf values move by what happens after the training: their steps, their record, and when they are used."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from leaf_world import clicks, trained

from headrace.models.features.spec import SPEC
from headrace.models.learning import artefact, hashed, leaves, online, pointers, ranker
from headrace.models.learning.evaluation import auc
from headrace.models.learning.hashed import SLOTS, Ids
from headrace.models.learning.leaf_learner import FEW, LeafLearner
from headrace.models.learning.leaf_steps import learn_leaves
from headrace.models.learning.leaves import MOST_DELTA, LeafDeltas
from headrace.models.learning.ranker import Ranker
from headrace.models.learning.trees import Trees, UnlikeError
from headrace.streams.errors import ArtefactError


@pytest.fixture(scope="module")
def model() -> Ranker:
    return trained()


def learner_of(model: Ranker) -> LeafLearner:
    assert model.trees is not None
    return LeafLearner(model.trees, model.version)


def learnt(model: Ranker, n: int = 6000, taste: float = -1.0, seed: int = 5) -> LeafLearner:
    learner = learner_of(model)
    x, y, ids = clicks(n, seed, taste)
    for start in range(0, n, 500):
        part = np.zeros(n, bool)
        part[start : start + 500] = True
        learner.learn(x[part], y[part], ids.where(part))
    return learner


@pytest.mark.parametrize("early", [False, True])
def test_the_kernels_steps_are_those_of_the_formula(early: bool) -> None:
    rng = np.random.default_rng(2)
    n, m = 60, 9
    found = rng.integers(0, m, (n, 3)).astype(np.int32)
    slots = rng.integers(0, 8, (n, 2)).astype(np.uint32)
    clicked, values = rng.random(n) < 0.4, rng.standard_normal(m)
    deltas, squares, table, sums = np.zeros(m), np.ones(m), np.zeros(8), np.zeros(8)
    raw = learn_leaves(
        found, slots, clicked.astype(np.uint8), values, 1.0, deltas, squares, table, sums,
        0.1, 0.05, 0.01, 0.2, early,
    )  # fmt: skip
    d, s, t, u = np.zeros(m), np.ones(m), np.zeros(8), np.zeros(8)
    for i in range(n):
        base = values[found[i]].sum()
        score = base + d[found[i]].sum() + t[slots[i]].sum()
        np.testing.assert_allclose(raw[i], [base, score], rtol=1e-12, atol=1e-12)
        p = 1 / (1 + np.exp(-score))
        g = p - clicked[i]
        if early:  # Ktena et al.: weights 1 + p and (1 - p)(1 + p)
            g *= 1 + p if clicked[i] else (1 - p) * (1 + p)
        for leaf in found[i]:
            s[leaf] += g * g
            d[leaf] = np.clip(d[leaf] - 0.01 * d[leaf] - 0.1 * g / np.sqrt(s[leaf]), -0.2, 0.2)
        for slot in slots[i]:
            t[slot] -= 0.05 * g
            u[slot] += g * g
    np.testing.assert_allclose(deltas, d, rtol=1e-9)
    np.testing.assert_allclose(squares, s, rtol=1e-12)
    np.testing.assert_allclose(table, t, rtol=1e-9)
    np.testing.assert_allclose(sums, u, rtol=1e-9)
    assert np.abs(deltas).max() == 0.2


def test_without_anything_learnt_the_scores_are_the_rankers(model: Ranker) -> None:
    assert model.trees is not None
    x, _, ids = clicks(500, 1)
    blank = dataclasses.replace(learner_of(model).deltas(), used=True)
    moved = leaves.moved(model, blank)
    assert moved is not None
    np.testing.assert_array_equal(moved.predict(x, ids), model.predict(x))
    np.testing.assert_allclose(model.predict(x), model.boosters[0].predict(x), rtol=0, atol=1e-12)


def test_moved_scores_are_lightgbms_with_these_leaf_outputs(model: Ranker) -> None:
    found = dataclasses.replace(learnt(model).deltas(), terms=np.zeros(SLOTS, np.float32))
    moved = leaves.moved(model, found)
    assert moved is not None
    booster, at = type(model.boosters[0])(model_str=model.text), 0
    for tree in booster.dump_model()["tree_info"]:
        for leaf in range(tree["num_leaves"]):
            value = booster.get_leaf_output(tree["tree_index"], leaf) + float(found.deltas[at])
            booster.set_leaf_output(tree["tree_index"], leaf, value)
            at += 1
    assert at == len(found.deltas)
    x, _, ids = clicks(500, 7)
    np.testing.assert_allclose(moved.predict(x, ids), booster.predict(x), rtol=0, atol=1e-9)


def test_a_change_of_tastes_is_learnt_between_two_trainings(model: Ranker) -> None:
    found = learnt(model).deltas()
    moved = leaves.moved(model, found)
    assert found.used
    assert moved is not None
    x, y, ids = clicks(3000, 9, -1.0)
    without, with_ = auc(model.predict(x), y), auc(moved.predict(x, ids), y)
    assert with_ > without + 0.05
    assert np.abs(found.deltas).max() <= MOST_DELTA


def test_deltas_that_do_not_help_are_not_used(model: Ranker) -> None:
    learner = learner_of(model)
    blank = learner.deltas()
    assert learner.restore(dataclasses.replace(blank, deltas=np.full_like(blank.deltas, -MOST_DELTA)), 100)
    x, y, ids = clicks(5000, 50)
    learner.learn(x, y, ids)
    assert learner.quality()["log_loss"] > learner.quality()["log_loss_without"]
    assert not learner.deltas().used
    assert leaves.moved(model, learner.deltas()) is None


def test_few_examples_are_not_used(model: Ranker) -> None:
    assert not learnt(model, FEW - 1).deltas().used


def test_deltas_of_another_ranker_are_ignored(model: Ranker) -> None:
    found = dataclasses.replace(learnt(model).deltas(), used=True)
    assert leaves.moved(model, found) is not None
    assert leaves.moved(None, found) is None
    assert leaves.moved(model, None) is None
    assert leaves.moved(model, dataclasses.replace(found, ranker="r2")) is None
    assert leaves.moved(model, dataclasses.replace(found, deltas=found.deltas[:-1])) is None
    other = trained(4, "r2")
    assert not learner_of(other).restore(found, 9)


def test_a_learner_goes_on_from_the_published_deltas(model: Ranker) -> None:
    first = learnt(model)
    value, version = leaves.encode(first.deltas(), 5, first.quality())
    loaded = leaves.decode(value)
    assert loaded.version == version
    assert (loaded.ranker, loaded.used) == (model.version, True)
    second = learner_of(model)
    assert second.restore(loaded, online.learnt(value)[0])
    assert second.seen == first.seen
    x, y, ids = clicks(500, 11, -1.0)
    for learner in (first, second):
        learner.learn(x, y, ids)
    a, b = first.deltas(), second.deltas()
    np.testing.assert_allclose(a.deltas, b.deltas, atol=1e-4)
    np.testing.assert_allclose(a.terms, b.terms, atol=2e-3)


def test_rows_that_are_not_finite_are_left_out(model: Ranker) -> None:
    clean, poisoned = learner_of(model), learner_of(model)
    x, y, ids = clicks(300, 3)
    keep = np.arange(300) != 17
    clean.learn(x[keep], y[keep], ids.where(keep))
    x[17, 3] = np.inf
    poisoned.learn(x, y, ids)
    np.testing.assert_array_equal(poisoned.deltas().deltas, clean.deltas().deltas)
    assert poisoned.seen == 299


def body(**changes: Any) -> bytes:
    terms = hashed.pack(np.zeros(SLOTS))
    told = {"ranker": "r1", "used": True, "deltas": [0.1, 0.2], "squares": [1.0, 2.0], "terms": terms}
    return orjson.dumps(told | changes)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{}",
        body(deltas=[0.1]),
        body(squares=[1.0, 0.0]),
        body(deltas=[0.1, 1e300]),
        body(terms="AAAA"),
        body(ranker=1),
    ],
)
def test_a_body_that_does_not_fit_is_refused(bad: bytes) -> None:
    value, _ = artefact.encode("leaves", "leaf-deltas", bad, SPEC.names, 1, {})
    with pytest.raises(ArtefactError):
        leaves.decode(value)
    good, _ = artefact.encode("leaves", "leaf-deltas", body(), SPEC.names, 1, {})
    assert leaves.decode(good).ranker == "r1"


def test_other_features_are_refused() -> None:
    value, _ = artefact.encode("leaves", "leaf-deltas", body(), SPEC.names[:-1], 1, {})
    with pytest.raises(ArtefactError, match="other features"):
        leaves.decode(value)


def test_the_trees_of_a_published_ranker(model: Ranker) -> None:
    value, version = ranker.encode(model.text, 1, {})
    trees, told = leaves.trees_of(value)
    assert told == version
    x, _, _ = clicks(50, 1)
    np.testing.assert_array_equal(trees.predict(x), model.predict(x))
    assert ranker.NAME == leaves.RANKER
    other, _ = artefact.encode("ranker", "torch", b"", SPEC.names, 1, {})
    with pytest.raises(ArtefactError, match="kind"):
        leaves.trees_of(other)
    with pytest.raises(UnlikeError):
        leaves.trees_of(artefact.encode("ranker", "lightgbm", b"x", SPEC.names, 1, {})[0])


def test_trees_that_were_read_ahead_are_not_read_again(model: Ranker) -> None:
    value, version = ranker.encode(model.text, 2, {})
    record = pointers.text_key(version), value
    leaves.trees_of.cache_clear()
    bad, gone, other = (b"ranker/bad", b"{}"), (b"ranker/gone", None), (b"online", b"{}")
    leaves.read_ahead([SimpleNamespace(key=k, value=v) for k, v in (bad, gone, other, record, (None, b"x"))])
    read = leaves.trees_of.cache_info().misses
    assert read == 2, "the bad one, and the ranker"
    assert leaves.trees_of(value)[1] == version
    assert leaves.trees_of.cache_info().misses == read
    with pytest.raises(ArtefactError):
        leaves.trees_of(b"{}")


def test_scores_that_are_no_probabilities_do_not_move(model: Ranker) -> None:
    text = model.text.replace("objective=binary sigmoid:1", "objective=lambdarank")
    with pytest.raises(ValueError, match="probabilities"):
        LeafLearner(Trees(text), "r1")


def test_a_step_moves_the_terms_of_its_ids_alone(model: Ranker) -> None:
    learner = learner_of(model)
    x, y, _ = clicks(100, 1)
    one = Ids(*(np.array([k] * 100, np.uint64) for k in (1, 2, 3, 4)))
    learner.learn(x, y, one)
    assert set(np.flatnonzero(learner.deltas().terms)) == set(one.pair()[0].tolist())


def test_sound() -> None:
    good = LeafDeltas("r", np.zeros(2, np.float32), np.ones(2, np.float32), True)
    assert leaves.sound(good)
    assert not leaves.sound(dataclasses.replace(good, deltas=np.array([0, np.nan], np.float32)))
    assert not leaves.sound(dataclasses.replace(good, squares=np.array([0, 1], np.float32)))


def test_no_candidates_have_no_scores(model: Ranker) -> None:
    moved = leaves.moved(model, learnt(model).deltas())
    assert moved is not None
    nothing = Ids.of_request("u", "de", "tv", np.zeros(0, np.uint64))
    assert moved.predict(np.zeros((0, len(SPEC)), np.float32), nothing).shape == (0,)
    assert nothing.terms().shape == (0, 4)
