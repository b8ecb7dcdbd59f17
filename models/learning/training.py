"""Train the ranker from the Parquet log: split by time, train, measure, return the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import POSITION, SPEC
from headrace.models.learning import cluster, gate, ranker, report, training_set
from headrace.models.learning.calibration import Calibration, best_kind, crossed, fitted, log_loss
from headrace.models.learning.evaluation import evaluate
from headrace.models.learning.histograms import Histograms, histograms
from headrace.models.learning.log_files import reading
from headrace.models.learning.objectives import CLICK, OBJECTIVES, Objective, shares
from headrace.models.learning.places import Place
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training_set import Examples, Part
from headrace.models.learning.weighting import Weighting

F64 = npt.NDArray[np.float64]

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
    unseen_weight
        Weight of a slot that was never seen, against that of a seen one; 0: they are left out.
    unshown_weight
        Weight of a candidate that was not shown, against that of a shown slot; 0: they are left out.
    weight_clip
        Largest weight for a small probability of being in the sample, or of being explored.
    user_slots, user_clicks
        A user with more of them is left out, as a program; 0: no limit.
    smoothing
        Labels become this much less certain: of a click ``1 - smoothing / 2``, of none ``smoothing / 2``.
    objectives
        Weights of the objectives, by name.
    measure
        Whether to train a second ranker, without the newest examples, and to measure it on those.
    live, live_kind, live_ts
        Body of the live ranker, its kind, and when it was made, ms: it is measured beside the new one
        (`gate`).
    dask
        Address of the scheduler of a Dask cluster that trains (`cluster`); empty: this process.
    report, ablation
        Whether to make a report (`report`), and whether it has what each group of features is worth.
    """

    folder: Place
    params: RankerParams
    min_rows: int
    min_clicks: int
    max_rows: int
    sample_rows: int
    unseen_weight: float = 1.0
    unshown_weight: float = 1.0
    weight_clip: float = 20.0
    user_slots: int = 0
    user_clicks: int = 0
    smoothing: float = 0.0
    objectives: dict[str, float] = field(default_factory=lambda: {CLICK: 1.0})
    measure: bool = True
    live: Place | None = None
    live_kind: str = ranker.KIND
    live_ts: int = 0
    dask: str = ""
    report: bool = False
    ablation: bool = False

    @property
    def weighting(self) -> Weighting:
        """What an example counts."""
        return Weighting(
            self.unshown_weight, self.weight_clip, self.user_slots, self.user_clicks, self.unseen_weight
        )


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained ranker, and the metrics on the newest examples of a ranker trained without them.

    Attributes
    ----------
    objectives
        What the ranker foresees.
    rows, clicks
        Number of shown slots in the log, and of clicks among them.
    left_out
        The objectives that could not be learnt, with the number of their positives.
    report
        What `report` says of the training; empty unless asked for.
    features
        The distributions of the features; None unless a report was asked for.
    """

    objectives: list[Objective]
    rows: int
    clicks: int
    metrics: dict[str, float]
    left_out: dict[str, int] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    features: Histograms | None = None

    @property
    def text(self) -> str:
        """The text of the first booster."""
        return self.objectives[0].text


def train_from_log(job: TrainJob) -> TrainResult | None:
    """Train on the log; None while it has too few examples, or all of one kind.

    The examples carry the features that were logged when the list was shown; nothing is recomputed. Memory is
    about 60 bytes for each example that is read, or 100 for each that LightGBM gets, whichever is more.
    """
    began, told_of = perf_counter(), dict[str, Any]()
    with reading(job.folder):
        found = training_set.find(job.folder, job.max_rows, job.sample_rows, HOLD_OUT, job.weighting)
        used = shares(job.objectives, found.positives, found.count, job.min_clicks)
        if found.count < job.min_rows or not used:
            return None
        metrics = {"rows": float(found.count), "bots": float(found.bots)} | {
            f"{n}s": float(found.positives[n]) for n in found.positives
        }
        curves: dict[str, Calibration] = {}
        if job.measure or len(used) > 1:  # a sum of several needs probabilities
            told, curves, told_of = _measured(found, job, used)
            metrics |= told
        texts = _fit(found.train, job, list(used))
        features = histograms(_rows(found.typical)) if job.report else None
    made = [Objective(n, used[n], texts[n], curves.get(n, Calibration())) for n in used]
    left_out = {n: k for n, k in found.positives.items() if n not in used and job.objectives.get(n, 0) > 0}
    if job.report:
        whole = Ranker(made, SPEC.names, "trained")
        told_of |= report.described(found, whole, job.params, perf_counter() - began) | {"left_out": left_out}
    return TrainResult(made, found.count, found.clicks, metrics, left_out, told_of, features)


def _fit(part: Part, job: TrainJob, names: Sequence[str]) -> dict[str, str]:
    """Return the text of a booster for each objective."""
    ys = [part.happened[:, OBJECTIVES.index(name)].astype(np.float32) for name in names]
    params, soft = job.params, job.smoothing
    if soft:  # LightGBM's "binary" takes 0 and 1 only; this is the same loss for any label between
        ys, params = [y * (1 - soft) + soft / 2 for y in ys], replace(params, objective="cross_entropy")
    if job.dask:
        texts = cluster.train_each(job.dask, part, ys, params, part.weight)
    else:
        texts = ranker.train_each(part.features(), ys, params, weight=part.weight)
    return dict(zip(names, texts, strict=True))


def _measured(
    found: Examples, job: TrainJob, used: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, Calibration], dict[str, Any]]:
    """Train on all but the newest examples; measure and calibrate on those.

    Returns
    -------
    Metrics, the calibration of each objective, and the report if there is to be one. All lack an objective of
    which either part lacks a class.
    Probabilities are measured as those of an example of one half, calibrated on the other half.
    """
    older, newest = found.train.where(found.older), found.newest
    names = [name for name in used if _both(older, name) and _both(newest, name)]
    if newest.lists is None or not names:
        return {}, {}, {}
    texts = _fit(older, job, names)
    probe = Ranker([Objective(name, 1.0, texts[name]) for name in names], SPEC.names, "probe")
    scores = _at_no_position(probe, newest)
    half = (newest.lists >> np.uint64(13)) & np.uint64(1) > 0
    metrics: dict[str, float] = {}
    curves, means = {}, {}
    for name in names:
        happened = newest.happened[:, OBJECTIVES.index(name)]
        kind = best_kind(scores[name], happened, half)
        curves[name] = fitted(kind, scores[name], happened)
        means[name] = crossed(kind, scores[name], happened, half)
        told = evaluate(means[name], happened, newest.lists)
        told |= {"log_loss_raw": log_loss(scores[name], happened)}
        metrics |= told if name == CLICK else {f"{name}_{key}": value for key, value in told.items()}
    made = [Objective(name, used[name], texts[name], curves[name]) for name in names]
    metrics |= _beside_live(Ranker(made, SPEC.names, "probe"), found, job)
    if not job.report:
        return metrics, curves, {}
    clip, params = max(job.weight_clip, report.CLIP), job.params
    told_of = report.report_of(found, probe, scores, means, clip=clip, params=params, ablate=job.ablation)
    return metrics, curves, told_of


def _both(part: Part, name: str) -> bool:
    happened = part.happened[:, OBJECTIVES.index(name)]
    return bool(happened.any() and not happened.all())


def _at_no_position(probe: Ranker, part: Part) -> dict[str, F64]:
    """Return the scores of examples as serving gives them: where an item was shown tells nothing."""
    out: dict[str, list[F64]] = {}
    for batch in part.features().batches():
        x = batch.copy()
        x[:, POSITION] = 0
        for name, score in probe.by_objective(x).items():
            out.setdefault(name, []).append(score)
    return {name: np.concatenate(parts) for name, parts in out.items()}


def _rows(part: Part) -> npt.NDArray[np.float32]:
    """Return all feature rows of a part."""
    return np.concatenate([np.zeros((0, len(SPEC)), np.float32), *part.features().batches()])


def _beside_live(probe: Ranker, found: Examples, job: TrainJob) -> dict[str, float]:
    """Return the figures of ``gate.compare`` on the held-out examples that the live ranker never saw."""
    if job.live is None or found.newest.lists is None:
        return {}
    live = ranker.of_body(job.live.read_bytes(), job.live_kind, SPEC.names, "live")
    unseen = np.flatnonzero(found.newest_ts > job.live_ts)[-MOST_COMPARED:]
    if not len(unseen):
        return {}
    newest = found.newest.where(unseen)
    x = _rows(newest)
    return gate.compare(probe, live, x, newest.clicked, found.newest.lists[unseen])
