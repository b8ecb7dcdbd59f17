"""How good scores are: AUC, log-loss, calibration, and ranking metrics within each list."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]


def evaluate(score: F64, clicked: Bool, group: I64 | U64) -> dict[str, float]:
    """Return AUC, log-loss, calibration (predicted / actual clicks), and MRR and NDCG@10 within each list.

    Parameters
    ----------
    score
        Predicted click probability, float64 ``(n,)``.
    clicked
        What happened, bool ``(n,)``.
    group
        The list each row was shown on, a number ``(n,)``. MRR and NDCG are means over the lists with a click;
        they are absent when no list has one.
    """
    p = np.clip(score, 1e-6, 1 - 1e-6)
    out = {
        "auc": auc(score, clicked),
        "log_loss": float(-np.log(np.where(clicked, p, 1 - p)).mean()),
        "calibration": float(p.sum() / max(1, clicked.sum())),
    }
    order = np.lexsort((-score, group))
    names, hit = group[order], clicked[order]
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    with_click = [places for part in np.split(hit, starts[1:]) if len(places := np.flatnonzero(part))]
    if with_click:
        out["mrr"] = float(np.mean([1 / (places[0] + 1) for places in with_click]))
        out["ndcg_at_10"] = float(np.mean([_ndcg_at_10(places) for places in with_click]))
    return out


def _ndcg_at_10(places: I64) -> float:
    """Return NDCG@10 of a list whose clicked items stand at ``places`` (0 is the top)."""
    gain = float((1 / np.log2(places[places < 10] + 2)).sum())
    ideal = float((1 / np.log2(np.arange(min(len(places), 10)) + 2)).sum())
    return gain / ideal


def auc(score: F64, clicked: Bool) -> float:
    """Return the area under the ROC curve (Mann-Whitney, ties count half); 0.5 when one class is missing."""
    positive = int(clicked.sum())
    negative = len(clicked) - positive
    if not positive or not negative:
        return 0.5
    _, where, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(count) - (count - 1) / 2
    return float((ranks[where][clicked].sum() - positive * (positive + 1) / 2) / (positive * negative))
