"""Train the ranker from the Parquet log: split by time, train, measure, return the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.models.features.spec import SPEC
from headrace.models.learning import ranker, training_set
from headrace.models.learning.evaluation import evaluate
from headrace.models.learning.log_files import reading
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training_set import Examples, LoggedFeatures

#: The newest share of the log is held out to measure on.
HOLD_OUT = 0.2


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
    measure
        Whether to train a second ranker, without the newest examples, and to measure it on those.
    """

    folder: Path
    params: RankerParams
    min_rows: int
    min_clicks: int
    max_rows: int
    measure: bool = True


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained ranker, and the metrics on the newest examples of a ranker trained without them."""

    text: str
    rows: int
    clicks: int
    metrics: dict[str, float]


def train_from_log(job: TrainJob) -> TrainResult | None:
    """Train on the log; None while it has too few examples.

    The examples carry the features that were logged when the list was shown; nothing is recomputed. Memory is
    about 100 bytes an example, whatever the size of the log: features are read in pieces, and LightGBM keeps
    one byte for each.
    """
    with reading(job.folder):
        examples = training_set.find(job.folder, job.max_rows, HOLD_OUT)
        rows, clicks = len(examples), int(examples.clicked.sum())
        if rows < job.min_rows or clicks < job.min_clicks:
            return None
        metrics = {"rows": float(rows), "clicks": float(clicks)}
        if job.measure:
            metrics |= _measured(examples, job.params)
        features, labels = LoggedFeatures(examples.pieces, examples.rows), examples.clicked
        text = ranker.train(features, labels.astype(np.float32), job.params)
    return TrainResult(text, rows, clicks, metrics)


def _measured(examples: Examples, params: RankerParams) -> dict[str, float]:
    """Train on all but the newest examples and evaluate on those; empty when either part lacks a class."""
    newest, older = examples.held_out, ~examples.held_out
    clicked = examples.clicked[newest]
    if not examples.clicked[older].any() or not 0 < clicked.sum() < len(clicked):
        return {}
    features = LoggedFeatures(examples.pieces, examples.rows[older])
    text = ranker.train(features, examples.clicked[older].astype(np.float32), params)
    probe = Ranker(text, SPEC.names, "probe")
    features = LoggedFeatures(examples.pieces, examples.rows[newest])
    score = np.concatenate([probe.predict(batch) for batch in features.batches()])
    return evaluate(score, clicked, examples.lists)
