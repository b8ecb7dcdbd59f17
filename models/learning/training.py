"""Train the ranker from the Parquet log: split by time, train, measure, hand over the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.models.features import SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning import ranker
from headrace.models.learning.ranker import Ranker, RankerParams

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: The newest share of the log is held out to measure on.
HOLD_OUT = 0.2


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained ranker and how it did on the newest examples, which it has not seen."""

    text: str
    rows: int
    clicks: int
    metrics: dict[str, float]


def train_from_log(
    data_dir: Path, params: RankerParams, *, min_rows: int, min_clicks: int
) -> TrainResult | None:
    """Train on the log; None while it holds too little.

    The examples carry the features that were logged when the list was shown; nothing is recomputed. Two
    examples of one shown slot (a join that was replayed after a crash) count once.
    """
    columns = ["user_id", "request_id", "position", "clicked", "features"]
    table = example_log.read(data_dir, columns)
    if table.num_rows < min_rows:
        return None
    # A list is known by its user, its request and its time: callers may count their requests alike.
    lists = list(
        zip(
            table.column("user_id").to_pylist(),
            table.column("request_id").to_pylist(),
            table.column("ts").to_pylist(),
            strict=True,
        )
    )
    once = _first_of_slot(lists, table.column("position").to_pylist())
    clicked = table.column("clicked").to_numpy(zero_copy_only=False)[once]
    if len(once) < min_rows or int(clicked.sum()) < min_clicks:
        return None
    x, y = example_log.features_of(table)[once], clicked.astype(np.float32)
    names = {name: i for i, name in enumerate(dict.fromkeys(lists))}
    group = np.array([names[lists[i]] for i in once], np.int64)
    cut = int(len(x) * (1 - HOLD_OUT))
    metrics: dict[str, float] = {"rows": float(len(x)), "clicks": float(clicked.sum())}
    if clicked[:cut].sum() > 0 and 0 < clicked[cut:].sum() < len(x) - cut:
        probe = Ranker(ranker.train(x[:cut], y[:cut], params), SPEC.names, "probe")
        metrics |= evaluate(probe.predict(x[cut:]), clicked[cut:], group[cut:])
    text = ranker.train(x, y, params)
    return TrainResult(text, len(x), int(clicked.sum()), metrics)


def _first_of_slot(lists: list[tuple[str, str, int]], position: list[int]) -> npt.NDArray[np.int64]:
    seen: set[tuple[tuple[str, str, int], int]] = set()
    keep = []
    for i, slot in enumerate(zip(lists, position, strict=True)):
        if slot not in seen:
            seen.add(slot)
            keep.append(i)
    return np.array(keep, np.int64)


def evaluate(score: F64, clicked: Bool, group: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return AUC, log-loss, calibration (predicted / actual clicks), and MRR and NDCG@10 within each list."""
    p = np.clip(score, 1e-6, 1 - 1e-6)
    out = {
        "auc": auc(score, clicked),
        "log_loss": float(-np.log(np.where(clicked, p, 1 - p)).mean()),
        "calibration": float(p.sum() / max(1, clicked.sum())),
    }
    order = np.lexsort((-score, group))
    names, hit = group[order], clicked[order]
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    reciprocal, ndcg = [], []
    for part in np.split(hit, starts[1:]):
        places = np.flatnonzero(part)
        if not len(places):
            continue
        reciprocal.append(1 / (places[0] + 1))
        gain = float((1 / np.log2(places[places < 10] + 2)).sum())
        ideal = float((1 / np.log2(np.arange(min(len(places), 10)) + 2)).sum())
        ndcg.append(gain / ideal)
    if reciprocal:
        out["mrr"], out["ndcg_at_10"] = float(np.mean(reciprocal)), float(np.mean(ndcg))
    return out


def auc(score: F64, clicked: Bool) -> float:
    """Return the area under the ROC curve (Mann-Whitney, ties count half); 0.5 when one class is missing."""
    positive = int(clicked.sum())
    negative = len(clicked) - positive
    if not positive or not negative:
        return 0.5
    _, where, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(count) - (count - 1) / 2
    return float((ranks[where][clicked].sum() - positive * (positive + 1) / 2) / (positive * negative))
