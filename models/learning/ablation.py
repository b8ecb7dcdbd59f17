"""What a group of features is worth: the ranker is trained without it, and measured on the same slots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import GROUPS, SPEC
from headrace.models.learning import ranker
from headrace.models.learning.figures import Scored, draws, with_ends
from headrace.models.learning.objectives import CLICK, OBJECTIVES, Objective
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training_set import LoggedFeatures, Part

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class Without(lgb.Sequence):  # type: ignore[misc]
    """Logged features in which some columns are 0 everywhere, for LightGBM: nothing splits on them.

    Parameters
    ----------
    features
        All of them.
    names
        The features to leave out.
    """

    def __init__(self, features: LoggedFeatures, names: tuple[str, ...]) -> None:
        self._features = features
        self._columns = [SPEC.index(name) for name in names]
        self.shape, self.batch_size = features.shape, features.batch_size

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, index: Any) -> Any:
        """Return one row or a slice of rows."""
        out = self._features[index].copy()
        out[..., self._columns] = 0
        return out

    def batches(self) -> Iterator[F32]:
        """Yield all rows, ``batch_size`` at once."""
        for start in range(0, len(self), self.batch_size):
            yield self[start : start + self.batch_size]


def ablation(older: Part, newest: Part, params: RankerParams, fair: Scored) -> list[dict[str, Any]]:
    """Return, for each group of ``GROUPS``, figures of a ranker of clicks that was trained without it.

    Parameters
    ----------
    older
        What to train on.
    newest
        The slots that ``fair`` has the lists, weights and strata of; its scores are those of all features.

    Returns
    -------
    The figures of all features first, then of each group, with ``lost``: how much lower AUC is without it,
    with an interval of the difference on the same lists.
    """
    whole, drawn = draws(fair)
    rows: list[dict[str, Any]] = [_row("", len(SPEC), whole, drawn)]
    label = older.happened[:, OBJECTIVES.index(CLICK)].astype(np.float32)
    for group, names in GROUPS.items():
        text = ranker.train(Without(older.features(), names), label, params, weight=older.weight)
        score = _scores(text, Without(newest.features(), (*names, "position")))
        value, drawn_without = draws(replace(fair, score=score, probability=score))
        row = _row(group, len(SPEC) - len(names), value, drawn_without)
        lost = [a - b for a, b in zip(drawn["auc"], drawn_without["auc"], strict=True)]
        rows.append(row | {"lost": with_ends(whole["auc"] - value["auc"], lost)})
    return rows


def _row(group: str, features: int, value: dict[str, float], drawn: dict[str, list[float]]) -> dict[str, Any]:
    shown = {name: with_ends(value[name], drawn[name]) for name in ("auc", "list_auc", "ndcg_at_10", "mrr")}
    return {"without": group, "features": features, "figures": shown, "lost": None}


def _scores(text: str, rows: Without) -> F64:
    probe = Ranker([Objective(CLICK, 1.0, text)], SPEC.names, "ablation")
    return np.concatenate([np.zeros(0), *(probe.predict(x) for x in rows.batches())])
