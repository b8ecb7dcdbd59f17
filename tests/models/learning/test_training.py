from __future__ import annotations

from pathlib import Path

import numpy as np
from logged_examples import example, write

from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training import train_from_log

PARAMS = RankerParams(trees=20, leaves=7, min_leaf=10)


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
