"""Click, long view and like: labels, weights, the artefact, and a training of all three."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from logged_examples import example, write

from headrace.models.features.spec import POSITION, SPEC
from headrace.models.learning import artefact, ranker
from headrace.models.learning.objectives import (
    OBJECTIVES,
    Objective,
    added,
    from_body,
    labels,
    shares,
    to_body,
)
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training import TrainJob, TrainResult, train_from_log
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.schemas import Example

PARAMS = RankerParams(trees=20, leaves=7, min_leaf=10)
WEIGHTS = {"click": 0.3, "long_view": 0.5, "like": 0.2}


def test_a_view_is_long_from_half_the_duration_on_or_from_30_s_where_there_is_none() -> None:
    dwell = np.array([29_999, 30_000, 30_000, 49_999, 50_000, 0, 1])
    duration = np.array([0, 0, 100_000, 100_000, 100_000, 1, 1])
    clicked = np.array([True] + [False] * 6)
    told = labels(clicked, ~clicked, dwell, duration)
    assert told[:, 1].tolist() == [False, True, False, False, True, False, True]
    assert (told[:, 0] == clicked).all()
    assert (told[:, 2] == ~clicked).all()


def test_what_cannot_be_learnt_gives_its_weight_to_the_others() -> None:
    found = {"click": 500, "long_view": 100, "like": 49}
    assert shares(WEIGHTS, found, 1000, 50) == {"click": 0.3 / 0.8, "long_view": 0.5 / 0.8}
    assert shares(WEIGHTS, {**found, "long_view": 0}, 1000, 50) == {"click": 1}
    assert shares(WEIGHTS, {**found, "long_view": 1000, "like": 50}, 1000, 50) == {"click": 0.6, "like": 0.4}
    assert shares({"like": 1.0}, found, 1000, 50) == {}
    assert shares(WEIGHTS, dict.fromkeys(OBJECTIVES, 0), 1000, 0) == {}


def some(n: int, **changes: Any) -> list[Example]:
    """Return examples: the first feature makes a click, the second a long view, the third a like."""
    rng, out = np.random.default_rng(0), []
    for i in range(n):
        e = example(i, rng)
        x = np.frombuffer(e.features, "<f4")
        dwell = 6000 if rng.random() < (0.7 if x[1] > 0.5 else 0.05) else 4000
        liked = bool(rng.random() < (0.5 if x[2] > 1 else 0.02))
        told = {"dwell_ms": dwell, "liked": liked, "duration_ms": 10_000, **changes}
        out.append(msgspec.structs.replace(e, **told))
    return out


def train(folder: Path, **options: Any) -> TrainResult | None:
    told = {"min_rows": 10, "min_clicks": 50, "max_rows": 10**6, "sample_rows": 10**6, "objectives": WEIGHTS}
    return train_from_log(TrainJob(folder, **{"params": PARAMS, **told, **options}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    folder = tmp_path_factory.mktemp("log")
    write(folder, some(8000))
    result = train(folder)
    assert result is not None
    return result


def test_each_objective_learns_its_own(trained: TrainResult) -> None:
    assert {one.name: one.weight for one in trained.objectives} == pytest.approx(WEIGHTS)
    assert trained.left_out == {}
    model = Ranker(trained.objectives, SPEC.names, "v")
    x = np.zeros((4, len(SPEC)), np.float32)
    x[1, 0] = x[2, 1] = x[3, 2] = 2
    each = model.by_objective(x)
    for k, name in enumerate(OBJECTIVES, 1):
        assert each[name][k] > 5 * each[name][0]
        others = np.delete(each[name], k)
        assert others.max() < 2 * others.min()
    np.testing.assert_allclose(model.predict(x), sum(WEIGHTS[n] * each[n] for n in OBJECTIVES))
    assert model.predict(x[:0]).shape == (0,)
    assert set(list(model.importance())[:3]) == set(SPEC.names[:3])
    assert sum(model.importance().values()) == pytest.approx(1)


def test_each_is_a_probability(trained: TrainResult) -> None:
    for prefix in ("", "long_view_", "like_"):
        assert trained.metrics[f"{prefix}calibration"] == pytest.approx(1, abs=0.15)
        assert trained.metrics[f"{prefix}log_loss"] <= trained.metrics[f"{prefix}log_loss_raw"] + 1e-3
        assert trained.metrics[f"{prefix}auc"] > 0.7


def test_all_of_them_survive_the_topic(trained: TrainResult) -> None:
    value, version = ranker.encode(trained.objectives, 1, trained.metrics, {"like": 3})
    loaded = ranker.decode(value)
    assert loaded.objectives == tuple(trained.objectives)
    assert loaded.version == version
    x = np.random.default_rng(1).normal(size=(50, len(SPEC))).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict(x), Ranker(trained.objectives, SPEC.names, "").predict(x))
    assert msgspec.json.decode(artefact.decode(value)["body"])["left_out"] == {"like": 3}


def test_each_booster_is_the_one_it_would_be_alone() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2000, len(SPEC))).astype(np.float32)
    ys = [(x[:, k] + rng.normal(size=2000) > 1).astype(np.float32) for k in range(3)]
    weight = rng.random(2000).astype(np.float32) + 0.5
    together = ranker.train_each(x, ys, PARAMS, weight=weight)
    assert together == [ranker.train(x, y, PARAMS, weight=weight) for y in ys]


def test_with_clicks_only_the_ranker_is_that_of_clicks_and_says_so(tmp_path: Path) -> None:
    examples = some(3000, dwell_ms=0, liked=False)
    write(tmp_path, examples)
    result = train(tmp_path, measure=False)
    assert result is not None
    x = np.stack([np.frombuffer(e.features, "<f4") for e in examples])
    alone = ranker.train(x, np.array([e.clicked for e in examples], np.float32), PARAMS)
    assert result.objectives == [Objective("click", 1.0, alone)]
    assert result.left_out == {"long_view": 0, "like": 0}
    by_topic = ranker.decode(ranker.encode(result.objectives, 1, {})[0])
    np.testing.assert_array_equal(by_topic.predict(x), Ranker(alone, SPEC.names, "v").predict(x))


@pytest.mark.parametrize("changes", [{"clicked": True}, {"clicked": False}])
def test_a_log_of_one_kind_of_outcome_is_not_trained_on(tmp_path: Path, changes: dict[str, Any]) -> None:
    write(tmp_path, some(500, dwell_ms=0, liked=False, **changes))
    assert train(tmp_path) is None


def test_figures_do_not_depend_on_where_an_item_was_shown(tmp_path: Path) -> None:
    """Only the position decides about clicks: a ranker that knows it would be nearly perfect."""
    out = []
    for e in some(5000):
        x = np.frombuffer(e.features, "<f4").copy()
        x[POSITION] = e.position
        out.append(msgspec.structs.replace(e, features=x.tobytes(), clicked=e.position == 1, liked=False))
    write(tmp_path, out)
    # Each tree sees a third of the features: many trees, so that enough of them see the position.
    result = train(tmp_path, params=replace(PARAMS, trees=100), objectives={"click": 1.0})
    assert result is not None
    x = np.zeros((2, len(SPEC)), np.float32)
    x[1, POSITION] = 1
    low, high = Ranker(result.text, SPEC.names, "v").predict(x)
    assert high > 3 * low, "it has learnt it"
    assert 0.4 < result.metrics["auc"] < 0.6
    assert result.metrics["mrr"] < 0.6


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b'{"objectives": []}',
        to_body([Objective("click", 0.0, "t")], {}),
        to_body([Objective("click", 1.0, "t"), Objective("click", 1.0, "t")], {}),
        to_body([Objective("sale", 1.0, "t")], {}),
        b'{"objectives":[{"name":"click","weight":1,"text":"t","calibration":{"kind":"platt","x":[-1,0]}}]}',
    ],
)
def test_objectives_that_do_not_fit_are_refused(body: bytes) -> None:
    with pytest.raises(ArtefactError):
        from_body(body)
    value, _ = artefact.encode("ranker", "lightgbm-objectives", body, SPEC.names, 1, {})
    with pytest.raises(ArtefactError):
        ranker.decode(value)


def test_what_is_added_is_the_sum_to_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    for k in (1, 2, 3, 5):
        for n in (0, 1, 500):
            each = [rng.random(n) for _ in range(k)]
            assert added(each).tolist() == np.sum(each, 0).tolist()
