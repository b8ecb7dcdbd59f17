"""Does a logged score follow from the logged features? Computed again by LightGBM itself, not by our kernel.

Serving scores with a kernel of its own (`trees`). Here LightGBM predicts, on features that were logged. So a
fault of the kernel, of the log, or of what is between them is a difference.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import POSITION
from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaves import MovedRanker
from headrace.models.learning.objectives import CLICK, Objective
from headrace.models.learning.ranker import Ranker

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: Two ways to add the same numbers differ by less; one feature in another leaf makes a larger difference.
EQUAL = 1e-9


def scores(ranker: Ranker, logged: F32, moved: MovedRanker | None = None, ids: Ids | None = None) -> F64:
    """Return the scores of logged features, float64 ``(n,)``.

    Parameters
    ----------
    logged
        float32 ``(n, len(SPEC))``; the positions in it are not used, because serving does not know them.
    moved, ids
        The ranker's leaf values as they had moved, and whom the rows were shown to; None: as trained.
    """
    x = logged.copy()
    x[:, POSITION] = 0
    if not len(x):
        return np.zeros(0)
    each = []
    for one, booster in zip(ranker.objectives, ranker.boosters, strict=True):
        if moved is not None and ids is not None and one.name == CLICK:
            raw = _moved(one, booster, x, moved, ids)
        else:
            raw = booster.predict(x, num_threads=1, validate_features=False)
        each.append(one.weight * one.calibration.apply(raw))
    return each[0] if len(each) == 1 else np.sum(each, 0)


def _moved(one: Objective, booster: object, x: F32, moved: MovedRanker, ids: Ids) -> F64:
    """Return what the booster predicts with moved leaves: LightGBM says which leaf each row falls into."""
    leaf = booster.predict(x, pred_leaf=True, num_threads=1, validate_features=False)  # type: ignore[attr-defined]
    sizes = np.array(re.findall(r"^num_leaves=(\d+)$", one.text, re.MULTILINE), np.int64)
    first = np.cumsum(sizes) - sizes
    sums = moved.leaf_values[first + leaf.reshape(len(x), -1)].sum(1) + moved.terms[ids.pair()].sum(1)
    found = re.search(r"^objective=binary sigmoid:(\S+)$", one.text, re.MULTILINE)
    slope = float(found[1]) if found else 1.0
    out: F64 = 1 / (1 + np.exp(-slope * sums))
    return out


def equal(ours: F64, logged: F64) -> Bool:
    """Return which scores are the same, bool ``(n,)``."""
    return np.isclose(ours, logged, rtol=EQUAL, atol=EQUAL)
