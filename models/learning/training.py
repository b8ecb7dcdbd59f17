"""Train the ranker from the Parquet log: split by time, train, measure, return the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.models.features.spec import SPEC
from headrace.models.learning import gate, ranker, training_set
from headrace.models.learning.evaluation import evaluate
from headrace.models.learning.log_files import reading
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training_set import Examples, Part

#: The newest share of the log is held out to measure on.
HOLD_OUT = 0.2
#: Most examples on which a candidate is compared with the live ranker.
MOST_COMPARED = 200_000


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What to train on, and how.

    Attributes
    ----------
    folder
        Folder of the log.
    min_rows, min_clicks
        With fewer examples or clicks nothing is trained.
    max_rows
        About so many of the newest examples are read.
    sample_rows
        Of more examples than this, LightGBM gets every click, and a sample of the rest.
    measure
        Whether to train a second ranker, without the newest examples, and to measure it on those.
    live, live_ts
        Text of the live ranker, and when it was made, ms: it is measured beside the new one (`gate`).
    """

    folder: Path
    params: RankerParams
    min_rows: int
    min_clicks: int
    max_rows: int
    sample_rows: int
    measure: bool = True
    live: Path | None = None
    live_ts: int = 0


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained ranker, and the metrics on the newest examples of a ranker trained without them.

    Attributes
    ----------
    rows, clicks
        Number of examples in the log, and of clicks among them.
    """

    text: str
    rows: int
    clicks: int
    metrics: dict[str, float]


def train_from_log(job: TrainJob) -> TrainResult | None:
    """Train on the log; None while it has too few examples.

    The examples carry the features that were logged when the list was shown; nothing is recomputed. Memory is
    about 50 bytes for each example that is read, or 100 for each that LightGBM gets, whichever is more.
    """
    with reading(job.folder):
        found = training_set.find(job.folder, job.max_rows, job.sample_rows, HOLD_OUT)
        if found.count < job.min_rows or found.clicks < job.min_clicks:
            return None
        metrics = {"rows": float(found.count), "clicks": float(found.clicks)}
        if job.measure:
            metrics |= _measured(found, job)
        return TrainResult(_fit(found.train, job.params), found.count, found.clicks, metrics)


def _fit(part: Part, params: RankerParams) -> str:
    return ranker.train(part.features(), part.clicked.astype(np.float32), params, weight=part.weight)


def _measured(found: Examples, job: TrainJob) -> dict[str, float]:
    """Train on all but the newest examples and evaluate on those; empty when either part lacks a class."""
    older, newest = found.train.where(found.older), found.newest
    if newest.lists is None or not older.clicked.any() or not 0 < newest.clicked.sum() < len(newest):
        return {}
    probe = Ranker(_fit(older, job.params), SPEC.names, "probe")
    score = np.concatenate([probe.predict(batch) for batch in newest.features().batches()])
    return evaluate(score, newest.clicked, newest.lists) | _beside_live(probe, found, job)


def _beside_live(probe: Ranker, found: Examples, job: TrainJob) -> dict[str, float]:
    """Return the figures of ``gate.compare`` on the held-out examples that the live ranker never saw."""
    if job.live is None or found.newest.lists is None:
        return {}
    live = Ranker(job.live.read_text("utf-8"), SPEC.names, "live")
    unseen = np.flatnonzero(found.newest_ts > job.live_ts)[-MOST_COMPARED:]
    if not len(unseen):
        return {}
    newest = found.newest.where(unseen)
    x = np.concatenate(list(newest.features().batches()))
    return gate.compare(probe, live, x, newest.clicked, found.newest.lists[unseen])
