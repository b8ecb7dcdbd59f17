"""The LightGBM ranker: training on arrays, prediction, and its record on `models`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.models.learning import artefact
from headrace.models.learning.trees import Trees, UnlikeError
from headrace.streams.errors import ArtefactError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

NAME = "ranker"
KIND = "lightgbm"


@dataclass(frozen=True, slots=True)
class RankerParams:
    """Training settings; the rest is LightGBM's default.

    Small trees on parts of the data: a click is rare, and the first trainings have only a few hundred.
    """

    objective: str = "binary"
    trees: int = 120
    leaves: int = 15
    learning_rate: float = 0.06
    min_leaf: int = 200
    threads: int = 1
    seed: int = 7
    extra: dict[str, bool | int | float | str] = field(
        default_factory=lambda: {
            "feature_fraction": 0.3,
            "bagging_fraction": 0.5,
            "bagging_freq": 1,
            "lambda_l2": 20.0,
        }
    )


class Ranker:
    """A trained booster that was checked against the feature list of this code.

    Raises
    ------
    ArtefactError
        When the text is not a LightGBM model or was made for other features.
    """

    def __init__(self, text: str, features: tuple[str, ...], version: str) -> None:
        artefact.check_features(f"ranker {version}", features, SPEC.names)
        try:
            self._booster = lgb.Booster(model_str=text)
        except lgb.basic.LightGBMError as exc:
            raise ArtefactError(f"ranker {version}: {exc}") from exc
        if self._booster.num_feature() != len(SPEC):
            raise ArtefactError(
                f"ranker {version}: the booster takes {self._booster.num_feature()} features, "
                f"this code gives {len(SPEC)}"
            )
        self.version = version
        self.text = text
        try:
            self.trees: Trees | None = Trees(text)
        except UnlikeError:  # LightGBM itself predicts; leaves do not move
            self.trees = None

    def predict(self, x: F32) -> F64:
        """Return one score for each row, float64 ``(n,)``; ``x`` is float32 ``(n, len(SPEC))``."""
        if not len(x):
            return np.zeros(0)  # LightGBM refuses empty input
        if self.trees is not None:
            return self.trees.predict(x)
        out: F64 = self._booster.predict(x, num_threads=1, validate_features=False)
        return out

    def names(self) -> tuple[str, ...]:
        """Return the features by the names that the booster itself has for them."""
        return tuple(self._booster.feature_name())

    def importance(self) -> dict[str, float]:
        """Return the share of total gain of each feature, largest first."""
        gain = self._booster.feature_importance("gain")
        total = float(gain.sum()) or 1.0
        pairs = sorted(zip(SPEC.names, gain / total, strict=True), key=lambda p: -p[1])
        return {n: float(g) for n, g in pairs if g > 0}


class Rows(Protocol):
    """Feature rows that LightGBM reads in pieces (`training_set`); ``shape`` is ``(n, n_features)``."""

    shape: tuple[int, int]


def train(
    x: F32 | Rows,
    y: F32,
    params: RankerParams,
    *,
    weight: F32 | None = None,
    group: npt.NDArray[np.int64] | None = None,
) -> str:
    """Train and return the model's text.

    Parameters
    ----------
    x, y
        float32 ``(n, len(SPEC))``, or rows read in pieces, and labels ``(n,)``.
    weight
        Of each row ``(n,)``, for example inverse propensities.
    group
        Number of rows of each list, for ``lambdarank``.

    Raises
    ------
    ArtefactError
        ``x`` has another shape.
    """
    if x.shape != (len(y), len(SPEC)):
        raise ArtefactError(f"training data has shape {x.shape}, expected ({len(y)}, {len(SPEC)})")
    data = lgb.Dataset(x, y, weight=weight, group=group, feature_name=list(SPEC.names), free_raw_data=True)
    booster = lgb.train(_lightgbm(params), data, num_boost_round=params.trees)
    text: str = booster.model_to_string()
    return text


def _lightgbm(params: RankerParams) -> dict[str, object]:
    """Return the parameters under LightGBM's names; training twice on the same data gives the same model."""
    return {
        "objective": params.objective,
        "num_leaves": params.leaves,
        "learning_rate": params.learning_rate,
        "min_data_in_leaf": params.min_leaf,
        "num_threads": params.threads,
        "seed": params.seed,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
        **params.extra,
    }


def encode(text: str, created_ts: int, metrics: dict[str, float]) -> tuple[bytes, str]:
    """Return the `models` record of a ranker and its version."""
    return artefact.encode(NAME, KIND, text.encode(), SPEC.names, created_ts, metrics)


def decode(value: bytes) -> Ranker:
    """Return the ranker in a `models` record; raise ``ArtefactError`` when it does not fit."""
    document = artefact.decode(value)
    if document["kind"] != KIND:
        raise ArtefactError(f"ranker {document['version']}: kind is {document['kind']!r}, expected {KIND!r}")
    text = document["body"].decode("utf-8", "replace")
    return Ranker(text, document["features"], document["version"])
