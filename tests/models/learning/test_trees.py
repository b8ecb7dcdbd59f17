"""The trees as arrays give the scores of LightGBM."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from headrace.models.learning.leaf_steps import sums_of
from headrace.models.learning.tree_bits import bit_leaves, bit_sums
from headrace.models.learning.trees import Trees, UnlikeError, predictions


def data(n: int, seed: int) -> Any:
    """Return rows whose columns repeat values, so that thresholds meet them, and labels."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6)).astype(np.float32)
    x[:, 1] = np.round(x[:, 1], 1)
    x[:, 2] *= 1e6
    x[:, 3] = rng.integers(0, 3, n)
    return x, (x[:, 0] + x[:, 1] + x[:, 3] + rng.standard_normal(n) > 1).astype(np.float32)


def model(objective: str = "binary", rounds: int = 40, n: int = 1500, **more: Any) -> lgb.Booster:
    x, y = data(n, 1)
    group = [10] * (n // 10) if objective == "lambdarank" else None
    told = {"objective": objective, "num_leaves": 15, "min_data_in_leaf": 5, "verbosity": -1, **more}
    return lgb.train(told, lgb.Dataset(x, y, group=group), num_boost_round=rounds)


@pytest.mark.parametrize("objective", ["binary", "lambdarank", "regression"])
@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 500])
def test_scores_are_lightgbms(objective: str, n: int) -> None:
    booster = model(objective)
    x, _ = data(n, 2)
    trees = Trees(booster.model_to_string())
    expected = booster.predict(x) if n else np.zeros(0)
    np.testing.assert_allclose(trees.predict(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("leaves", [2, 3, 31, 32, 33, 80])
def test_trees_of_any_size(leaves: int) -> None:
    """Up to 32 leaves by bits, larger ones node by node; both add the values in the order of the trees."""
    booster = model(num_leaves=leaves, n=4000)
    x, _ = data(133, 2)
    trees = Trees(booster.model_to_string())
    np.testing.assert_allclose(trees.predict(x), booster.predict(x), rtol=1e-12)
    theirs = booster.predict(x, pred_leaf=True)
    values = np.array([[booster.get_leaf_output(t, leaf) for t, leaf in enumerate(row)] for row in theirs])
    np.testing.assert_array_equal(trees.values[trees.find(x)], values)
    total = np.zeros(len(x))
    for column in values.T:
        total += column
    np.testing.assert_array_equal(trees.sums(x, trees.values), total)


def test_several_models_at_once_give_what_each_gives_alone() -> None:
    """Also where one is too large for bits, and however the rows lie in memory; NaN counts as 0."""
    x, _ = data(133, 2)
    x[5, 0] = np.nan
    sizes = ((15, 41), (80, 7), (4, 2))
    every = [Trees(model(num_leaves=n, rounds=r, n=4000).model_to_string()) for n, r in sizes]
    alone = [one.score(one.sums(np.nan_to_num(x), one.values)) for one in every]
    for rows in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        for found, expected in zip(predictions(rows, every), alone, strict=True):
            np.testing.assert_array_equal(found, expected)
    assert predictions(x, []) == []


@pytest.mark.parametrize("call", [bit_sums, bit_leaves])
def test_bits_that_lead_nowhere_are_refused(call: Any) -> None:
    x, none = np.zeros((2, 3), np.float32), np.zeros(0, np.int32)
    whole = {"columns": none + 0, "thresholds": none.astype(np.float32), "masks": none.astype(np.uint32)}
    last = np.zeros(32, np.float64 if call is bit_sums else np.int32)
    bounds = np.zeros(2, np.int32)
    assert len(call(x, *whole.values(), bounds, last)) == 2
    one = np.ones(1, np.int32)
    for columns, mask, ends in ((3 * one, 1 << 31, [0, 1]), (-one, 1 << 31, [0, 1]), (one, 1, [0, 1]),
                                (one, 1 << 31, [0, 2]), (one, 1 << 31, [1, 1])):  # fmt: skip
        with pytest.raises(ValueError, match=r"column|place|node|tree"):
            call(
                x,
                columns,
                one.astype(np.float32),
                np.array([mask], np.uint32),
                np.array(ends, np.int32),
                last,
            )
    with pytest.raises(ValueError, match="length"):
        call(
            x,
            one,
            one.astype(np.float32),
            np.array([1 << 31], np.uint32),
            np.array([0, 1], np.int32),
            last[:31],
        )


def test_values_at_and_beside_a_threshold_go_where_lightgbm_sends_them() -> None:
    booster = model()
    text = booster.model_to_string()
    lines = [line for line in text.split("\n") if line.startswith("threshold=")]
    edges = np.array(" ".join(line[10:] for line in lines).split(), np.float64).astype(np.float32)
    edges = np.concatenate(
        [edges, np.nextafter(edges, np.float32(np.inf)), np.nextafter(edges, np.float32(-np.inf))]
    )
    x = np.repeat(np.concatenate([edges, [0, np.inf, -np.inf, 1e38]]).astype(np.float32)[:, None], 6, 1)
    np.testing.assert_allclose(Trees(text).predict(x), booster.predict(x), rtol=1e-12)


def test_a_value_that_is_missing_counts_as_zero_as_in_lightgbm() -> None:
    booster = model()
    x, _ = data(100, 3)
    x[::3, 0] = np.nan
    np.testing.assert_allclose(Trees(booster.model_to_string()).predict(x), booster.predict(x), rtol=1e-12)


def test_a_tree_of_one_leaf() -> None:
    booster = model(n=30, min_data_in_leaf=29, rounds=3)
    x, _ = data(20, 4)
    trees = Trees(booster.model_to_string())
    np.testing.assert_allclose(trees.predict(x), booster.predict(x), rtol=1e-12)
    assert (trees.find(x) == trees.leaves).all()


def test_the_leaves_are_those_of_lightgbm() -> None:
    booster = model()
    x, _ = data(200, 5)
    trees = Trees(booster.model_to_string())
    found = trees.find(x)
    theirs = booster.predict(x, pred_leaf=True)
    values = np.array([[booster.get_leaf_output(t, leaf) for t, leaf in enumerate(row)] for row in theirs])
    np.testing.assert_array_equal(trees.values[found], values)
    assert np.isin(found, trees.leaves).all()
    assert trees.width == 6


@pytest.mark.parametrize(
    "more",
    [
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
        {"linear_tree": True},
        {"objective": "poisson"},
        {"objective": "multiclass", "num_class": 3},
    ],
)
def test_another_kind_of_model_is_left_to_lightgbm(more: dict[str, Any]) -> None:
    text = model(**{"objective": "binary", **more}).model_to_string()
    with pytest.raises(UnlikeError):
        Trees(text)


def test_missing_values_and_categories_are_left_to_lightgbm() -> None:
    x, y = data(1500, 1)
    holes = x.copy()
    holes[::5, 0] = np.nan
    for rows, category in ((holes, []), (x, [3])):
        data_set = lgb.Dataset(rows, y, categorical_feature=category)
        booster = lgb.train({"objective": "binary", "verbosity": -1}, data_set, num_boost_round=5)
        with pytest.raises(UnlikeError):
            Trees(booster.model_to_string())


@pytest.mark.parametrize(
    "text", ["", "tree\nTree=0\n", "tree\nobjective=binary sigmoid:1\nnum_tree_per_iteration=1\nTree=0\nx=1"]
)
def test_a_text_that_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(UnlikeError):
        Trees(text)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("left_child", lambda values: values[:-1]),
        ("right_child", lambda values: [*values, "-1"]),
        ("left_child", lambda values: [values[1], *values[1:]]),
        ("right_child", lambda values: ["0", *values[1:]]),
        ("left_child", lambda values: ["100", *values[1:]]),
        ("right_child", lambda values: ["-100", *values[1:]]),
        ("left_child", lambda values: ["9" * 30, *values[1:]]),
        ("split_feature", lambda values: ["-1", *values[1:]]),
        ("threshold", lambda values: ["x", *values[1:]]),
        ("leaf_value", lambda values: values[:-1]),
        ("decision_type", lambda values: values[1:]),
    ],
)
@pytest.mark.parametrize("tree", [0, 3])
def test_a_text_with_a_damaged_tree_is_refused(tree: int, field: str, change: Any) -> None:
    head, *trees = model(rounds=4, num_leaves=8).model_to_string().split("\nTree=")
    before = next(line for line in trees[tree].split("\n") if line.startswith(f"{field}="))
    values = before.removeprefix(f"{field}=").split()
    trees[tree] = trees[tree].replace(before, f"{field}={' '.join(change(values))}")
    with pytest.raises(UnlikeError):
        Trees("\nTree=".join([head, *trees]))


def test_nodes_that_lead_nowhere_are_refused() -> None:
    x, ones = np.zeros((3, 2), np.float32), np.ones(1, np.int32)
    for bad in ([2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, -1]):
        with pytest.raises(ValueError, match="exist"):
            sums_of(x, np.array([bad], np.int32), 0 * ones, ones, np.zeros(1))
    with pytest.raises(ValueError, match="root"):
        sums_of(x, np.zeros((1, 4), np.int32), ones, ones, np.zeros(1))
