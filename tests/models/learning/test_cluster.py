"""A training on a Dask cluster: the rows of a local one, and as good a ranker."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import LocalCluster
from logged_examples import example, write
from object_store import object_store

from headrace.models.learning import cluster, training_set
from headrace.models.learning.cluster import Parts, connected, spans
from headrace.models.learning.log_files import files_in
from headrace.models.learning.places import Place, place
from headrace.models.learning.ranker import RankerParams
from headrace.models.learning.train_process import train_apart
from headrace.models.learning.training import HOLD_OUT, TrainJob, train_from_log
from headrace.models.learning.training_set import Examples
from headrace.models.learning.trees import Trees
from headrace.models.learning.weighting import Weighting
from headrace.streams.errors import HeadraceError, UnavailableError

#: Largest difference of AUC between the ranker of the cluster and that of one process. Without random parts
#: of the data only bins differ; with them, each worker draws its own.
ALL_DATA, BAGS = 0.005, 0.03
#: Parameters that must be the same in both, by LightGBM's names.
SAME = [
    "objective", "boosting", "num_iterations", "learning_rate", "num_leaves", "min_data_in_leaf", "seed",
    "feature_fraction", "bagging_fraction", "bagging_freq", "lambda_l1", "lambda_l2", "max_bin", "max_depth",
    "min_sum_hessian_in_leaf", "min_gain_to_split", "bin_construct_sample_cnt", "deterministic",
]  # fmt: skip


@pytest.fixture(scope="module")
def two_workers() -> Iterator[str]:
    """Return the address of a cluster of two worker processes."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as started:
        yield started.scheduler_address


def fill(folder: Place, rows: int = 6000, files: int = 7) -> None:
    """Write clicks and lists; a tenth of the slots were filled by exploration, and some were not shown."""
    rng = np.random.default_rng(0)
    examples = [example(i, rng, user=f"u{i % 97}") for i in range(rows)]
    for one in examples:
        one.explored = bool(rng.random() < 0.1)
        one.propensity = 0.2 if one.explored else 1.0
        one.unshown = bool(rng.random() < 0.1)
    for n, part in enumerate(np.array_split(np.arange(rows), files)):
        write(folder, [examples[i] for i in part], first=int(part[0]), ts=1000 + n)


def job_of(folder: Place, **more: Any) -> TrainJob:
    params = RankerParams(trees=40, min_leaf=50)
    return TrainJob(folder, params, 100, 1, 10**6, 10**6, **{"weight_clip": 3.0, **more})


def found_in(folder: Place) -> Examples:
    return training_set.find(folder, 10**6, 3000, HOLD_OUT, Weighting(0.5, 3.0))


def parameters(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\[(\w+): (.*)\]$", text, re.MULTILINE))


def test_spans_have_every_example_once(tmp_path: Path) -> None:
    fill(tmp_path)
    part = found_in(tmp_path).train
    whole = np.concatenate(list(part.features().batches()))
    for most in (1, 400, 10**6):
        places, read = [], []
        for pieces, first_row, where in spans(part, most):
            places += range(where.start, where.stop)
            named = [(str(piece.path), piece.group, piece.rows) for piece in pieces]
            read.append(cluster.read(named, part.rows[where] - np.uint32(first_row)))
        assert places == list(range(len(part)))
        np.testing.assert_array_equal(np.concatenate(read), whole)
    assert len(read) == 1


def test_the_workers_have_the_rows_labels_and_weights_of_a_local_training(
    tmp_path: Path, two_workers: str
) -> None:
    fill(tmp_path)
    part = found_in(tmp_path).train
    assert part.weight is not None
    assert len(set(part.weight.tolist())) > 2
    with connected(two_workers) as client:
        parts = Parts(client, part)
        x, y, weight = parts.features(), parts.sent(part.clicked.astype(np.float32)), parts.sent(part.weight)
        assert len(set(parts.workers)) == 2
        got = [client.compute(array).result() for array in (x, y, weight)]
    np.testing.assert_array_equal(got[0], np.concatenate(list(part.features().batches())))
    np.testing.assert_array_equal(got[1], part.clicked)
    np.testing.assert_array_equal(got[2], part.weight)


@pytest.mark.parametrize("tolerance", [ALL_DATA, BAGS])
async def test_the_cluster_trains_as_good_a_ranker_on_the_same_examples(
    tmp_path: Path, two_workers: str, tolerance: float
) -> None:
    fill(tmp_path, rows=20_000)  # of 6,000, the bins of some features depend on which worker has which rows
    job = job_of(tmp_path, objectives={"click": 1.0, "like": 0.0})
    if tolerance == ALL_DATA:
        job = replace(job, params=replace(job.params, extra={"lambda_l2": 20.0}))
    local = train_from_log(job)
    there = await train_apart(replace(job, dask=two_workers))
    assert local is not None
    assert there is not None
    assert (there.rows, there.clicks, there.left_out) == (local.rows, local.clicks, local.left_out)
    assert local.metrics["auc"] > 0.7
    assert abs(there.metrics["auc"] - local.metrics["auc"]) < tolerance
    assert there.text != local.text, "it was trained elsewhere"
    ours, theirs = parameters(local.text), parameters(there.text)
    assert {name: theirs[name] for name in SAME} == {name: ours[name] for name in SAME}
    assert (theirs["num_machines"], theirs["tree_learner"]) == ("2", "data")
    assert Trees(there.text).slope == 1.0, "our kernel scores it"


def test_several_objectives_and_soft_labels_from_a_store(two_workers: str) -> None:
    with object_store() as store:
        folder = place(store.url) / "examples"
        fill(folder, rows=2000, files=3)
        with connected(two_workers) as client:
            client.run(_reach)
        done = train_from_log(
            job_of(folder, smoothing=0.02, measure=False, dask=two_workers, objectives={"click": 1.0})
        )
    assert done is not None
    assert parameters(done.text)["objective"] == "cross_entropy"


def _reach() -> None:
    import os

    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")  # noqa: S106


def test_workers_that_cannot_read_the_log_are_named(tmp_path: Path, two_workers: str) -> None:
    fill(tmp_path, rows=500, files=2)
    found = found_in(tmp_path)
    for file in files_in(tmp_path):
        file.path.unlink()
    with pytest.raises(HeadraceError, match=r"the Dask cluster at .* failed: FileNotFoundError"):
        cluster.train_each(two_workers, found.train, [found.train.clicked.astype(np.float32)], RankerParams())


@pytest.mark.parametrize("stage", ["reading", "training"])
def test_a_worker_that_is_lost_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    fill(tmp_path, rows=500, files=2)
    monkeypatch.setattr(cluster, "LOOK_S", 0.2)
    part = found_in(tmp_path).train
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as started:
        over, reads, real = threading.Event(), threading.Event(), Parts.features

        def features(parts: Parts) -> Any:
            if stage == "reading":
                reads.set()
                killer.join()
            return real(parts)  # on a worker that is gone: Dask waits for it

        monkeypatch.setattr(Parts, "features", features)

        def kill_one() -> None:
            def trains() -> bool:
                running = [t for t in list(started.scheduler.tasks.values()) if t.state == "processing"]
                return any("train_part" in str(task.key) for task in running)

            while not trains() and not reads.is_set() and not over.wait(0.02):
                pass
            os.kill(started.workers[0].pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        try:
            with pytest.raises(HeadraceError, match=r"failed: lost tcp://127\.0\.0\.1:"):
                cluster.train_each(
                    started.scheduler_address,
                    part,
                    [part.clicked.astype(np.float32)],
                    RankerParams(trees=10**6, min_leaf=10),
                )
        finally:
            over.set()
            killer.join()


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WAIT_S", 1)
    fill(tmp_path, rows=500, files=2)
    with pytest.raises(UnavailableError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        train_from_log(replace(job_of(tmp_path), dask="tcp://127.0.0.1:1"))
    with (
        pytest.raises(UnavailableError, match="no Dask scheduler answers at nonsense://x"),
        connected("nonsense://x"),
    ):
        pass


def test_a_cluster_without_workers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WAIT_S", 1)
    with (
        LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as empty,
        pytest.raises(UnavailableError, match="has no workers"),
        connected(empty.scheduler_address),
    ):
        pass
