from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headrace.models.features.spec import SPEC
from headrace.models.learning import artefact, online, ranker
from headrace.models.learning.online_learner import OnlineLearner
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.streams.errors import ArtefactError

SMALL = RankerParams(trees=20, leaves=7, min_leaf=5)


def toy(n: int = 800, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Clicks follow two columns; the others are noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, len(SPEC))).astype(np.float32)
    p = 1 / (1 + np.exp(-(2 * x[:, 3] - 1.5 * x[:, 10])))
    return x, (rng.random(n) < p).astype(np.float32)


def auc(score: np.ndarray, y: np.ndarray) -> float:  # type: ignore[type-arg]
    order = np.argsort(np.argsort(score))
    pos = y > 0.5
    return float((order[pos].sum() - pos.sum() * (pos.sum() - 1) / 2) / (pos.sum() * (~pos).sum()))


@pytest.fixture(scope="module")
def text() -> str:
    x, y = toy()
    return ranker.train(x, y, SMALL)


def test_learns_what_can_be_learnt(text: str) -> None:
    x, y = toy(seed=1)
    model = Ranker(text, SPEC.names, "v")
    assert auc(model.predict(x), y) > 0.8
    assert set(list(model.importance())[:2]) == {SPEC.names[3], SPEC.names[10]}
    assert sum(model.importance().values()) == pytest.approx(1)


def test_predictions_survive_the_topic(text: str) -> None:
    value, version = ranker.encode(text, 123, {"auc": 0.8})
    loaded = ranker.decode(value)
    x, _ = toy(50, 2)
    np.testing.assert_array_equal(loaded.predict(x), Ranker(text, SPEC.names, "v").predict(x))
    assert loaded.version == version
    assert artefact.decode(value)["metrics"] == {"auc": 0.8}
    assert ranker.encode(loaded.text, 999, {})[1] == version, "the version is that of the weights"


def test_training_is_repeatable_and_leaves_its_input_alone(text: str) -> None:
    x, y = toy()
    x_before, y_before = x.copy(), y.copy()
    assert ranker.train(x, y, SMALL) == text
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(y, y_before)


def test_scores_of_any_number_of_rows(text: str) -> None:
    model = Ranker(text, SPEC.names, "v")
    assert model.predict(np.zeros((0, len(SPEC)), np.float32)).shape == (0,)
    one = model.predict(np.zeros((1, len(SPEC)), np.float32))
    assert one.shape == (1,)
    assert one.dtype == np.float64
    x, _ = toy(30, 4)
    np.testing.assert_array_equal(model.predict(np.asfortranarray(x)), model.predict(x))
    np.testing.assert_array_equal(model.predict(x[::-1])[::-1], model.predict(x))


def test_lists_can_be_learnt_as_lists() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((60 * 10, len(SPEC))).astype(np.float32)
    best = x[:, 5].reshape(60, 10).argmax(1)
    y = np.zeros(600, np.float32)
    y[np.arange(60) * 10 + best] = 1
    params = RankerParams("lambdarank", trees=30, leaves=7, min_leaf=5)
    model = Ranker(ranker.train(x, y, params, group=np.full(60, 10)), SPEC.names, "v")
    fresh = rng.standard_normal((200, 10, len(SPEC))).astype(np.float32)
    got = model.predict(fresh.reshape(2000, -1)).reshape(200, 10).argmax(1)
    assert float((got == fresh[:, :, 5].argmax(1)).mean()) > 0.5  # chance is 0.1


def test_weights_count() -> None:
    x, y = toy(600)
    flipped = np.concatenate([x, x]), np.concatenate([y, 1 - y])
    weight = np.concatenate([np.ones(600), np.full(600, 1e-3)]).astype(np.float32)
    model = Ranker(ranker.train(*flipped, SMALL, weight=weight), SPEC.names, "v")
    assert auc(model.predict(x), y) > 0.8


@pytest.mark.parametrize("y", [np.zeros(100, np.float32), np.ones(100, np.float32)])
def test_one_sided_and_constant_data_do_not_stop_training(y: np.ndarray) -> None:  # type: ignore[type-arg]
    model = Ranker(ranker.train(np.zeros((100, len(SPEC)), np.float32), y, SMALL), SPEC.names, "v")
    assert np.isfinite(model.predict(np.ones((3, len(SPEC)), np.float32))).all()


def test_data_of_another_shape_is_refused() -> None:
    with pytest.raises(ArtefactError, match=rf"\(5, 3\).*\(5, {len(SPEC)}\)"):
        ranker.train(np.zeros((5, 3), np.float32), np.zeros(5, np.float32), SMALL)


def test_another_feature_list_is_refused_naming_both(text: str) -> None:
    theirs = (*SPEC.names[:-1], "moon_phase")
    with pytest.raises(ArtefactError) as caught:
        Ranker(text, theirs, "v7")
    message = str(caught.value)
    assert "v7" in message
    assert str(list(theirs)) in message
    assert str(list(SPEC.names)) in message
    assert "moon_phase" in message
    with pytest.raises(ArtefactError, match="another order"):
        Ranker(text, SPEC.names[::-1], "v7")


def test_a_booster_of_another_width_is_refused() -> None:
    import lightgbm as lgb

    data = lgb.Dataset(np.random.default_rng(0).random((100, 3)), np.arange(100) % 2)
    booster = lgb.train({"objective": "binary", "verbosity": -1}, data, 2)
    with pytest.raises(ArtefactError, match="3 features"):
        Ranker(booster.model_to_string(), SPEC.names, "v")


@pytest.mark.parametrize("body", ["", "nonsense", "tree\nversion=v4\n"])
def test_what_is_no_model_is_refused(body: str) -> None:
    value, _ = artefact.encode("ranker", "lightgbm", body.encode(), SPEC.names, 1, {})
    with pytest.raises(ArtefactError):
        ranker.decode(value)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_text_that_was_cut_is_refused(text: str, part: float) -> None:
    """LightGBM ends the process for some of them."""
    with pytest.raises(ArtefactError, match="not the whole text"):
        Ranker(text[: int(part * text.index("\nend of trees"))], SPEC.names, "v")


def test_a_text_without_one_of_its_trees_is_refused(text: str) -> None:
    trees = text.split("\nTree=")
    with pytest.raises(ArtefactError, match="not the whole text"):
        Ranker("\nTree=".join([*trees[:5], *trees[6:]]), SPEC.names, "v")


def test_a_worker_scores_without_lightgbm(text: str, tmp_path: Path) -> None:
    """With what it imports, it takes as much time as all else that a worker that serves imports."""
    value, _ = ranker.encode(text, 123, {})
    (tmp_path / "record").write_bytes(value)
    code = (
        "import sys, numpy as np, headrace.agents.recommend; from headrace.models.learning import ranker;"
        "found = ranker.decode(open(sys.argv[1], 'rb').read());"
        "print(found.predict(np.zeros((3, len(ranker.SPEC)), np.float32)).tolist());"
        "sys.exit(str({'lightgbm', 'sklearn', 'scipy', 'pandas'} & sys.modules.keys() or ''))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "record")], capture_output=True, text=True, check=False
    )
    assert told.stderr.strip() == ""
    expected = Ranker(text, SPEC.names, "v").predict(np.zeros((3, len(SPEC)), np.float32)).tolist()
    assert json.loads(told.stdout) == expected


def test_a_model_of_another_kind_is_refused() -> None:
    value, _ = artefact.encode("ranker", "logistic", b"x", SPEC.names, 1, {})
    with pytest.raises(ArtefactError, match=r"kind.*logistic.*lightgbm"):
        ranker.decode(value)
    value, _ = online.encode(OnlineLearner().weights(), 1, {})
    with pytest.raises(ArtefactError):
        ranker.decode(value)
