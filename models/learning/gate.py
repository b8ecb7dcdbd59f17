"""The gate before the shadow: a candidate and the live ranker on the same held-out examples. Pure.

Only examples shown after the live ranker was made are compared: it was trained on the older ones. The
position is the same for all of them, as in serving, and AUC compares only slots that were at the same
position. Else the live ranker would gain: it has decided what stood at the top, where clicks are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import POSITION
from headrace.models.learning.evaluation import evaluate
from headrace.models.learning.figures import auc_within
from headrace.models.learning.ranker import Ranker

F32 = npt.NDArray[np.float32]

#: With fewer clicks among the compared examples, nothing is decided.
LEAST_CLICKS = 50
#: Names of the figures of the live ranker begin with it, those of the candidate with the other.
LIVE, CANDIDATE = "gate_live_", "gate_"
#: What the gate compares: larger is better.
_COMPARED = ("auc", "ndcg_at_10")


def compare(
    candidate: Ranker,
    live: Ranker,
    x: F32,
    clicked: npt.NDArray[np.bool_],
    lists: npt.NDArray[np.uint64],
) -> dict[str, float]:
    """Return the figures of both rankers on the same rows; none with fewer than ``LEAST_CLICKS`` clicks.

    Parameters
    ----------
    x
        Features, float32 ``(n, len(SPEC))``, with the position of each row.
    clicked, lists
        What happened, and the list each row was on, ``(n,)``.
    """
    if clicked.sum() < LEAST_CLICKS or clicked.all():
        return {}
    x, at = x.copy(), x[:, POSITION].astype(np.int64)
    x[:, POSITION] = 0
    out = {f"{CANDIDATE}rows": float(len(x)), f"{CANDIDATE}clicks": float(clicked.sum())}
    for prefix, ranker in ((CANDIDATE, candidate), (LIVE, live)):
        score = ranker.predict(x)
        figures = evaluate(score, clicked, lists) | {"auc": auc_within(score, clicked, at)}
        out |= {prefix + name: value for name, value in figures.items()}
    return out


def refusal(metrics: Mapping[str, float], margin: float) -> str:
    """Return why a candidate must not be tried; empty when it may.

    Parameters
    ----------
    metrics
        Of ``compare``; without its figures nothing is refused.
    margin
        By how much the candidate's AUC, or its NDCG@10, may be lower than the live ranker's.
    """
    for name in _COMPARED:
        ours, theirs = metrics.get(CANDIDATE + name), metrics.get(LIVE + name)
        if ours is not None and theirs is not None and not ours >= theirs - margin:
            return (
                f"{name} {ours:.4f} is clearly below the live ranker's {theirs:.4f}, "
                f"on {metrics[CANDIDATE + 'rows']:.0f} examples that neither was trained on"
            )
    return ""
