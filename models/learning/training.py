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
from headrace.models.learning.training_set import Examples, Part, Weighting

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
    sample_rows
        Of more examples than this, LightGBM gets every click, and a sample of the rest.
    unshown_weight
        Weight of a candidate that was not shown, against that of a shown slot; 0: they are left out.
    weight_clip
        Largest weight for a small probability of being in the sample.
    measure
        Whether to train a second ranker, without the newest examples, and to measure it on those.
    """

    folder: Path
    params: RankerParams
    min_rows: int
    min_clicks: int
    max_rows: int
    sample_rows: int
    unshown_weight: float = 1.0
    weight_clip: float = 20.0
    measure: bool = True

    @property
    def weighting(self) -> Weighting:
        """What an example counts."""
        return Weighting(self.unshown_weight, self.weight_clip)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained ranker, and the metrics on the newest examples of a ranker trained without them.

    Attributes
    ----------
    rows, clicks
        Number of shown slots in the log, and of clicks among them.
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
        found = training_set.find(job.folder, job.max_rows, job.sample_rows, HOLD_OUT, job.weighting)
        if found.count < job.min_rows or found.clicks < job.min_clicks:
            return None
        metrics = {"rows": float(found.count), "clicks": float(found.clicks)}
        if job.measure:
            metrics |= _measured(found, job.params)
        return TrainResult(_fit(found.train, job.params), found.count, found.clicks, metrics)


def _fit(part: Part, params: RankerParams) -> str:
    return ranker.train(part.features(), part.clicked.astype(np.float32), params, weight=part.weight)


def _measured(found: Examples, params: RankerParams) -> dict[str, float]:
    """Train on all but the newest examples and evaluate on those; empty when either part lacks a class."""
    older, newest = found.train.where(found.older), found.newest
    if newest.lists is None or not older.clicked.any() or not 0 < newest.clicked.sum() < len(newest):
        return {}
    probe = Ranker(_fit(older, params), SPEC.names, "probe")
    score = np.concatenate([probe.predict(batch) for batch in newest.features().batches()])
    return evaluate(score, newest.clicked, newest.lists)
