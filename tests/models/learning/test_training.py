"""The Parquet log and what is trained from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headrace.models.features.spec import ONLINE_NAMES, SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning import online
from headrace.models.learning.evaluation import auc, evaluate
from headrace.models.learning.online import OnlineLearner
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training import train_from_log
from headrace.streams.messages.schemas import Example

PARAMS = RankerParams(trees=20, leaves=7, min_leaf=10)


def example(i: int, rng: np.random.Generator, *, user: str = "u", request: str | None = None) -> Example:
    x = rng.normal(size=len(SPEC)).astype("<f4")
    clicked = bool(rng.random() < (0.8 if x[0] > 0.5 else 0.05))
    return Example(
        request or f"r{i // 5}", user, f"i{i % 50}", "home", i % 5, 1000 + i // 5, "BR", "tv", "",
        SPEC.version,
        1.0, False, 0.1, clicked, 0, False, False, x.tobytes(),
    )  # fmt: skip


def write(folder: Path, examples: list[Example], first: int = 0, partition: int = 0) -> Path:
    offsets = list(range(first, first + len(examples)))
    return example_log.write(folder, example_log.table_of(examples, partition, offsets), partition)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    examples = [example(i, rng) for i in range(20)]
    write(tmp_path, examples[:12])
    write(tmp_path, examples[12:], first=12)
    table = example_log.read(tmp_path)
    assert table.column("item_id").to_pylist() == [e.item_id for e in examples]
    assert np.array_equal(
        example_log.features_of(table), np.stack([np.frombuffer(e.features, "<f4") for e in examples])
    )


def test_records_delivered_twice_are_read_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    examples = [example(i, rng) for i in range(20)]
    write(tmp_path, examples)
    write(tmp_path, examples[5:], first=5)
    assert example_log.read(tmp_path).num_rows == 20


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path, [example(i, rng) for i in range(10)])
    (tmp_path / example_log.FOLDER / "p00009-0-1.parquet").write_bytes(b"")
    assert example_log.read(tmp_path).num_rows == 10
    assert "cannot be read" in caplog.text


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    assert example_log.read(tmp_path).num_rows == 0
    assert train_from_log(tmp_path, PARAMS, min_rows=1, min_clicks=1) is None


def test_training_learns_what_is_there_to_learn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path, [example(i, rng) for i in range(3000)])
    result = train_from_log(tmp_path, PARAMS, min_rows=1000, min_clicks=50)
    assert result is not None
    assert result.rows == 3000
    assert result.metrics["auc"] > 0.8
    assert 0.7 < result.metrics["calibration"] < 1.4
    x = np.zeros((2, len(SPEC)), np.float32)
    x[1, 0] = 2
    low, high = Ranker(result.text, SPEC.names, "t").predict(x)
    assert high > low


def test_a_slot_logged_twice_counts_once_and_two_users_with_one_request_id_count_twice(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    examples = [example(i, rng) for i in range(1000)]
    write(tmp_path, examples)
    write(tmp_path, examples, first=5000)  # the join wrote them again, at other offsets
    again = train_from_log(tmp_path, PARAMS, min_rows=10, min_clicks=1)
    assert again is not None
    assert again.rows == 1000
    for e in examples:
        e.user_id = "somebody else"
    write(tmp_path, examples, first=9000)
    both = train_from_log(tmp_path, PARAMS, min_rows=10, min_clicks=1)
    assert both is not None
    assert both.rows == 2000


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([0.1, 0.9]), np.array([False, True])) == 1.0
    assert auc(np.array([0.5, 0.5]), np.array([False, True])) == 0.5
    assert auc(np.array([0.9, 0.1]), np.array([False, True])) == 0.0


def test_list_metrics_by_hand() -> None:
    got = evaluate(
        np.array([0.9, 0.5, 0.1, 0.2, 0.3]),
        np.array([False, True, False, False, True]),
        np.array([0, 0, 0, 1, 1]),
    )
    assert got["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert got["ndcg_at_10"] == pytest.approx((1 / np.log2(3) + 1) / 2)


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
