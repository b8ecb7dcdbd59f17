"""How good scores are: AUC over all and within lists, log-loss, calibration, MRR and NDCG@10."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]


def evaluate(score: F64, clicked: Bool, group: I64 | U64) -> dict[str, float]:
    """Return AUC, log-loss, calibration (predicted / actual clicks), its error, and figures within lists.

    Parameters
    ----------
    score
        Predicted click probability, float64 ``(n,)``.
    clicked
        What happened, bool ``(n,)``.
    group
        The list each row was shown on, a number ``(n,)``. MRR and NDCG are means over the lists with a click;
        AUC within lists (``list_auc``) over those with both. They are absent when there is no such list.
        Ties within a list are broken at random, always the same way: rows often come in the order shown.
    """
    p = np.clip(score, 1e-6, 1 - 1e-6)
    out = {
        "auc": auc(score, clicked),
        "log_loss": float(-np.log(np.where(clicked, p, 1 - p)).mean()),
        "calibration": float(p.sum() / max(1, clicked.sum())),
        "calibration_error": calibration_error(p, clicked),
    }
    order = np.lexsort((np.random.default_rng(7).permutation(len(score)), -score, group))
    names, hit = group[order], clicked[order]
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    lists = list(zip(np.split(score[order], starts[1:]), np.split(hit, starts[1:]), strict=True))
    both = [auc(scores, hits) for scores, hits in lists if 0 < hits.sum() < len(hits)]
    if both:
        out["list_auc"] = float(np.mean(both))
    with_click = [places for _, hits in lists if len(places := np.flatnonzero(hits))]
    if with_click:
        out["mrr"] = float(np.mean([1 / (places[0] + 1) for places in with_click]))
        out["ndcg_at_10"] = float(np.mean([_ndcg_at_10(places) for places in with_click]))
    return out


def _ndcg_at_10(places: I64) -> float:
    """Return NDCG@10 of a list whose clicked items stand at ``places`` (0 is the top)."""
    gain = float((1 / np.log2(places[places < 10] + 2)).sum())
    ideal = float((1 / np.log2(np.arange(min(len(places), 10)) + 2)).sum())
    return gain / ideal


def calibration_error(p: F64, clicked: Bool, bins: int = 10) -> float:
    """Return the mean distance of predicted and actual click rate, over bins with equally many rows.

    The expected calibration error of Naeini et al. (2015).
    """
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(sum(abs(p[part].sum() - clicked[part].sum()) for part in parts) / max(1, len(p)))


def auc(score: F64, clicked: Bool) -> float:
    """Return the area under the ROC curve (Mann-Whitney, ties count half); 0.5 when one class is missing."""
    positive = int(clicked.sum())
    negative = len(clicked) - positive
    if not positive or not negative:
        return 0.5
    _, where, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(count) - (count - 1) / 2
    return float((ranks[where][clicked].sum() - positive * (positive + 1) / 2) / (positive * negative))
