from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from logged_examples import example, write

from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning import ranker, training_set
from headrace.models.learning.log_files import deleting
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training import TrainJob, TrainResult, train_from_log
from headrace.models.learning.training_set import LoggedFeatures
from headrace.models.learning.weighting import Weighting
from headrace.streams.messages.schemas import Example

PARAMS = RankerParams(trees=20, leaves=7, min_leaf=10)


def train(folder: Path, **options: Any) -> TrainResult | None:
    return train_from_log(
        TrainJob(
            folder,
            PARAMS,
            **{"min_rows": 10, "min_clicks": 1, "max_rows": 10**6, "sample_rows": 10**6, **options},
        )
    )


def some(n: int, start: int = 0) -> list[Example]:
    rng = np.random.default_rng(start)
    return [example(start + i, rng) for i in range(n)]


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    assert example_log.read(tmp_path).num_rows == 0
    assert train(tmp_path) is None
    assert train(tmp_path / "nowhere") is None


def test_training_learns_what_is_there_to_learn(tmp_path: Path) -> None:
    write(tmp_path, some(3000))
    result = train(tmp_path, min_rows=1000, min_clicks=50)
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
    examples = some(1000)
    write(tmp_path, examples)
    write(tmp_path, examples, first=5000)  # the join wrote them again, at other offsets
    again = train(tmp_path)
    assert again is not None
    assert again.rows == 1000
    for e in examples:
        e.user_id = "somebody else"
    write(tmp_path, examples, first=9000)
    both = train(tmp_path)
    assert both is not None
    assert both.rows == 2000


def test_a_training_in_pieces_is_that_of_the_whole(tmp_path: Path) -> None:
    examples = some(2000)
    for start in range(0, 2000, 50):  # 40 files
        write(tmp_path, examples[start : start + 50], first=start)
    result = train(tmp_path)
    x = np.stack([np.frombuffer(e.features, "<f4") for e in examples])
    y = np.array([e.clicked for e in examples], np.float32)
    assert result is not None
    assert result.text == ranker.train(x, y, PARAMS)


def test_the_pieces_give_any_rows(tmp_path: Path) -> None:
    examples = some(300)
    for start in range(0, 300, 30):
        write(tmp_path, examples[start : start + 30], first=start)
    found = training_set.find(tmp_path, 10**6, 10**6, 0.2).train
    rows = found.rows[::7]
    features = LoggedFeatures(found.pieces, rows)
    x = np.stack([np.frombuffer(e.features, "<f4") for e in examples])[rows]
    assert isinstance(features, lgb.Sequence)
    assert features.shape == (len(rows), len(SPEC))
    np.testing.assert_array_equal(features[:], x)
    np.testing.assert_array_equal(features[3:9], x[3:9])
    np.testing.assert_array_equal([features[i] for i in range(len(rows))], x)
    assert features[5].dtype == np.float64


def test_whole_lists_of_the_newest_fifth_are_held_out(tmp_path: Path) -> None:
    write(tmp_path, some(1000))
    found = training_set.find(tmp_path, 10**6, 10**6, 0.2)
    assert found.older.tolist() == [True] * 800 + [False] * 200
    assert found.newest.rows.tolist() == list(range(800, 1000))
    assert found.newest.lists is not None
    _, slots = np.unique(found.newest.lists, return_counts=True)
    assert slots.tolist() == [5] * 40


def test_of_many_examples_every_click_is_kept_and_the_rest_is_sampled(tmp_path: Path) -> None:
    examples = some(20_000)
    write(tmp_path, examples)
    clicked = np.array([e.clicked for e in examples])
    every = training_set.find(tmp_path, 10**6, 20_000, 0.2).train
    assert every.weight is None
    assert len(every) == 20_000
    found = training_set.find(tmp_path, 10**6, 14_000, 0.2)
    train = found.train
    assert train.weight is not None
    assert (found.count, found.clicks) == (20_000, clicked.sum())
    assert train.clicked.sum() == clicked.sum() < 7000
    assert len(train) == pytest.approx(14_000, rel=0.02)
    assert set(train.weight[train.clicked].tolist()) == {1.0}
    assert train.weight.sum() == pytest.approx(20_000, rel=0.02), "they stand for all"
    assert len(found.newest) == 4000, "lists are measured as a whole"
    again = training_set.find(tmp_path, 10**6, 14_000, 0.2).train
    assert again.rows.tolist() == train.rows.tolist()
    few = training_set.find(tmp_path, 10**6, 2000, 0.2).train
    assert few.clicked.sum() == pytest.approx(1000, rel=0.1)
    assert few.weight is not None
    assert few.weight[few.clicked].sum() == pytest.approx(clicked.sum(), rel=0.1)


def test_a_sample_is_as_well_calibrated_as_the_whole(tmp_path: Path) -> None:
    write(tmp_path, some(20_000))
    whole, sample = train(tmp_path), train(tmp_path, sample_rows=8000)
    assert whole is not None
    assert sample is not None
    assert sample.rows == 20_000
    assert sample.metrics["calibration"] == pytest.approx(whole.metrics["calibration"], abs=0.05)
    assert sample.metrics["auc"] == pytest.approx(whole.metrics["auc"], abs=0.02)


def unshown(examples: list[Example], probability: float = 0.5) -> list[Example]:
    """Return the examples as candidates of the same lists that were not shown."""
    return [
        msgspec.structs.replace(e, position=e.position + 5, unshown=True, propensity=probability)
        for e in examples
    ]


def test_what_was_not_shown_is_trained_on_and_neither_counted_nor_measured(tmp_path: Path) -> None:
    write(tmp_path, some(1000))
    alone = training_set.find(tmp_path, 10**6, 10**6, 0.2)
    write(tmp_path, unshown(some(1000), 0.25), first=1000)
    found = training_set.find(tmp_path, 10**6, 10**6, 0.2, Weighting(0.5, clip=20))
    assert (found.count, found.clicks) == (alone.count, alone.clicks)
    assert found.newest.rows.tolist() == alone.newest.rows.tolist()
    assert len(found.train) == 2000
    assert found.train.weight is not None
    assert found.train.weight.tolist() == [1.0] * 1000 + [2.0] * 1000
    assert found.older.sum() == 1600, "its lists are held out with their slots"
    clipped = training_set.find(tmp_path, 10**6, 10**6, 0.2, Weighting(1, clip=3)).train.weight
    assert clipped is not None
    assert clipped.max() == 3
    without = training_set.find(tmp_path, 10**6, 10**6, 0.2, Weighting(0))
    assert without.train.rows.tolist() == alone.train.rows.tolist()
    result = train(tmp_path)
    assert result is not None
    assert (result.rows, result.clicks) == (alone.count, alone.clicks)


@pytest.mark.parametrize(("every", "weight"), [(1, 1.0), (10, 0.1), (0, None)])
def test_what_was_not_shown_counts_as_much_as_users_find_it(
    tmp_path: Path, every: int, weight: float | None
) -> None:
    slots = [msgspec.structs.replace(e, clicked=k % 5 == 0) for k, e in enumerate(some(1000))]
    rest = [
        msgspec.structs.replace(e, clicked=every > 0 and k % (5 * every) == 0)
        for k, e in enumerate(unshown(slots, probability=1))
    ]
    write(tmp_path, slots)
    write(tmp_path, rest, first=1000)
    train = training_set.find(tmp_path, 10**6, 10**6, 0.2).train
    assert len(train) == (1000 if weight is None else 2000), "where nothing is found, they tell nothing"
    weights = np.ones(len(train)) if train.weight is None else train.weight
    assert weights[:1000].tolist() == [1] * 1000
    assert weights[1000:].tolist() == pytest.approx([weight] * (len(train) - 1000))
    half = training_set.find(tmp_path, 10**6, 10**6, 0.2, Weighting(0.5)).train
    assert len(half) == len(train)
    if half.weight is not None:
        assert half.weight[1000:].tolist() == pytest.approx([0.5 * w for w in weights[1000:]])


def test_a_log_of_an_older_version_has_only_shown_slots(tmp_path: Path) -> None:
    path = write(tmp_path, some(500))
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["unshown"]), path)
    write(tmp_path, unshown(some(500)), first=500)
    found = training_set.find(tmp_path, 10**6, 10**6, 0.2)
    assert (found.count, len(found.train)) == (500, 1000)
    assert example_log.read(tmp_path).num_rows == 1000


def test_a_slot_that_was_never_seen_counts_as_the_weight_says_and_is_measured_like_any_other(
    tmp_path: Path,
) -> None:
    labels = ["touched", "skipped", "passed", "unseen", ""] * 200
    rows = [msgspec.structs.replace(e, label=of) for e, of in zip(some(1000), labels, strict=True)]  # type: ignore[arg-type]
    path = write(tmp_path, rows)
    like_others, half, none = (
        training_set.find(tmp_path, 10**6, 10**6, 0.2, Weighting(unseen=w)) for w in (1, 0.5, 0)
    )
    assert like_others.train.weight is None
    assert half.train.weight is not None
    assert half.train.weight.tolist() == [1, 1, 1, 0.5, 1] * 200
    assert none.train.rows.tolist() == [k for k in range(1000) if labels[k] != "unseen"]
    assert none.older.sum() == 640
    for found in (half, none):
        assert (found.count, found.clicks) == (like_others.count, like_others.clicks)
        assert found.newest.rows.tolist() == like_others.newest.rows.tolist()
    pq.write_table(pq.read_table(path).drop_columns(["label"]), path)
    assert len(training_set.find(tmp_path, 10**6, 10**6, 0.2, Weighting(unseen=0)).train) == 1000, "older"


def test_explored_slots_count_by_their_propensity_and_no_others(tmp_path: Path) -> None:
    slots = [
        msgspec.structs.replace(e, propensity=p) for e, p in zip(some(4), (0.5, 0.5, 0.01, 1), strict=True)
    ]
    slots[0].explored = slots[2].explored = True
    write(tmp_path, slots)
    found = training_set.find(tmp_path, 10**6, 10**6, 0.2, Weighting(clip=10)).train
    assert found.weight is not None
    assert found.weight.tolist() == [2, 1, 10, 1]


def test_a_user_with_too_many_slots_or_clicks_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, some(1000))
    alone = training_set.find(tmp_path, 10**6, 10**6, 0.2)
    write(tmp_path, [msgspec.structs.replace(e, user_id="bot") for e in some(1500)], first=1000)
    clicker = [msgspec.structs.replace(e, user_id="clicker", clicked=True) for e in some(900)]
    write(tmp_path, clicker, first=3000)
    write(tmp_path, unshown([msgspec.structs.replace(e, user_id="clicker") for e in some(50)]), first=4000)
    every = training_set.find(tmp_path, 10**6, 10**6, 0.2)
    assert (every.count, every.bots, len(every.train)) == (3400, 0, 3450)
    found = training_set.find(tmp_path, 10**6, 10**6, 0.2, Weighting(user_slots=1200, user_clicks=800))
    assert (found.count, found.clicks, found.bots) == (alone.count, alone.clicks, 2)
    assert found.train.rows.tolist() == alone.train.rows.tolist()
    assert found.newest.rows.tolist() == alone.newest.rows.tolist()
    result = train(tmp_path, user_slots=1200)
    assert result is not None
    assert (result.rows, result.metrics["bots"]) == (1900, 1)


def test_smoothed_labels_make_no_prediction_certain(tmp_path: Path) -> None:
    write(tmp_path, some(3000))
    plain, smooth = train(tmp_path), train(tmp_path, smoothing=0.4)
    assert plain is not None
    assert smooth is not None
    x = np.zeros((2, len(SPEC)), np.float32)
    x[0, 0], x[1, 0] = -2, 2
    low, high = Ranker(smooth.text, SPEC.names, "t").predict(x)
    sure_low, sure_high = Ranker(plain.text, SPEC.names, "t").predict(x)
    assert 0 < high - low < 0.8 * (sure_high - sure_low)


def test_only_the_newest_files_are_read_when_there_are_more_examples_than_asked_for(tmp_path: Path) -> None:
    for n in range(10):
        write(tmp_path, some(100, start=n * 100), first=n * 100, ts=1000 + n)
    result = train(tmp_path, max_rows=250)
    assert result is not None
    assert result.rows == 300


def test_no_file_is_deleted_while_the_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, some(1000))
    allowed: list[bool] = []
    find = training_set.find

    def watched(*arguments: Any) -> training_set.Examples:
        with deleting(tmp_path) as may:
            allowed.append(may)
        return find(*arguments)

    monkeypatch.setattr(training_set, "find", watched)
    assert train(tmp_path) is not None
    with deleting(tmp_path) as may:
        allowed.append(may)
    assert allowed == [False, True]
