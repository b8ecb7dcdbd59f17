"""The LightGBM ranker: training on arrays, prediction, and its record on `models`."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.models.learning import artefact
from headrace.models.learning.objectives import (
    CLICK,
    KIND_OF_OBJECTIVES,
    Objective,
    added,
    from_body,
    to_body,
)
from headrace.models.learning.trees import Trees, UnlikeError, predictions, whole
from headrace.streams.errors import ArtefactError

if TYPE_CHECKING:  # with all that it brings, LightGBM is half of what a worker that serves would import
    import lightgbm as lgb

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

NAME = "ranker"
#: One booster, as its text; and several, with weights and calibration (``objectives``).
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
    """Trained boosters that were checked against the feature list of this code.

    Parameters
    ----------
    model
        The objectives; or the text of one booster, whose output is the score.

    Attributes
    ----------
    objectives
        What the ranker foresees.
    auc
        As it was published; None: not known.

    Raises
    ------
    ArtefactError
        When a text is not a LightGBM model or was made for other features.
    """

    def __init__(self, model: str | Sequence[Objective], features: tuple[str, ...], version: str) -> None:
        artefact.check_features(f"ranker {version}", features, SPEC.names)
        given = [Objective(CLICK, 1.0, model)] if isinstance(model, str) else list(model)
        self.objectives = tuple(given)
        self.version = version
        self.auc: float | None = None
        if not all(whole(one.text) for one in given):  # LightGBM may end the process for it
            raise ArtefactError(f"ranker {version}: not the whole text of a LightGBM model")
        self._trees = tuple(_trees(one.text) for one in given)
        if None in self._trees:
            self.boosters  # noqa: B018 - LightGBM says what is wrong, or predicts
        for trees in self._trees:
            if trees is not None:
                _check_width(trees.features, version)

    @functools.cached_property
    def boosters(self) -> tuple[lgb.Booster, ...]:
        """The boosters of the objectives. Our own kernel scores without them, and without LightGBM."""
        return tuple(_booster(one.text, self.version) for one in self.objectives)

    @property
    def text(self) -> str:
        """The text of the first booster."""
        return self.objectives[0].text

    @property
    def trees(self) -> Trees | None:
        """The trees that foresee clicks, whose leaves can move; None where they cannot, or there are none."""
        return self._trees[0] if self.objectives[0].name == CLICK else None

    def predict(self, x: F32, clicks: F64 | None = None) -> F64:
        """Return one score for each row, float64 ``(n,)``.

        Parameters
        ----------
        x
            float32 ``(n, len(SPEC))``.
        clicks
            What the booster of clicks gives for each row, ``(n,)``, where its leaves have moved.
        """
        return self.together(self.by_objective(x, clicks))

    def together(self, foreseen: Mapping[str, F64]) -> F64:
        """Return the scores that ``by_objective`` makes up, float64 ``(n,)``."""
        return added([one.weight * foreseen[one.name] for one in self.objectives])

    def by_objective(self, x: F32, clicks: F64 | None = None) -> dict[str, F64]:
        """Return the probability of each objective, float64 ``(n,)``; parameters as for ``predict``."""
        return dict(zip((one.name for one in self.objectives), self._each(x, clicks), strict=True))

    def _each(self, x: F32, given: F64 | None) -> list[F64]:
        if not len(x):
            return [np.zeros(0)] * len(self.objectives)  # LightGBM refuses empty input
        wanted = [i for i, one in enumerate(self.objectives) if given is None or one.name != CLICK]
        found = dict(zip(wanted, self._raw(x, wanted), strict=True))
        return [
            one.calibration.apply(found[i] if i in found or given is None else given)
            for i, one in enumerate(self.objectives)
        ]

    def _raw(self, x: F32, wanted: Sequence[int]) -> Iterator[F64]:
        """Yield what some of the boosters give, by their places, float64 ``(n,)`` each."""
        small = [trees for i in wanted if (trees := self._trees[i]) is not None]
        found = iter(predictions(x, small))
        for i in wanted:
            if self._trees[i] is not None:
                yield next(found)
            else:
                yield np.asarray(self.boosters[i].predict(x, num_threads=1, validate_features=False))

    def names(self) -> tuple[str, ...]:
        """Return the features by the names that the booster itself has for them."""
        return tuple(self.boosters[0].feature_name())

    def importance(self) -> dict[str, float]:
        """Return the share of total gain of each feature, by the weights of the objectives, largest first."""
        out = np.zeros(len(SPEC))
        for one, booster in zip(self.objectives, self.boosters, strict=True):
            gain = booster.feature_importance("gain")
            out += one.weight * gain / (float(gain.sum()) or 1.0)
        out /= float(out.sum()) or 1.0
        pairs = sorted(zip(SPEC.names, out, strict=True), key=lambda p: -p[1])
        return {n: float(g) for n, g in pairs if g > 0}


def _trees(text: str) -> Trees | None:
    try:
        return Trees(text)
    except UnlikeError:  # LightGBM itself predicts; leaves do not move
        return None


def _booster(text: str, version: str) -> lgb.Booster:
    import lightgbm as lgb

    try:
        booster = lgb.Booster(model_str=text)
    except lgb.basic.LightGBMError as exc:
        raise ArtefactError(f"ranker {version}: {exc}") from exc
    _check_width(booster.num_feature(), version)
    return booster


def _check_width(features: int, version: str) -> None:
    if features != len(SPEC):
        raise ArtefactError(
            f"ranker {version}: the booster takes {features} features, this code gives {len(SPEC)}"
        )


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
    """Train one booster and return its text.

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
    return train_each(x, [y], params, weight=weight, group=group)[0]


def train_each(
    x: F32 | Rows,
    ys: Sequence[F32],
    params: RankerParams,
    *,
    weight: F32 | None = None,
    group: npt.NDArray[np.int64] | None = None,
) -> list[str]:
    """Train a booster for each of several labels ``(n,)`` on the same rows, which are read once.

    Parameters, errors: see ``train``. Each booster is the one that it would be alone.
    """
    import lightgbm as lgb

    for y in ys:
        if x.shape != (len(y), len(SPEC)):
            raise ArtefactError(f"training data has shape {x.shape}, expected ({len(y)}, {len(SPEC)})")
    names = list(SPEC.names)
    data = lgb.Dataset(x, ys[0], weight=weight, group=group, feature_name=names, free_raw_data=True)
    out: list[str] = []
    for y in ys:
        data.set_label(y)
        out.append(lgb.train(lightgbm_params(params), data, num_boost_round=params.trees).model_to_string())
    return out


def lightgbm_params(params: RankerParams) -> dict[str, object]:
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


def encode(
    model: str | Sequence[Objective],
    created_ts: int,
    metrics: dict[str, float],
    left_out: Mapping[str, int] | None = None,
) -> tuple[bytes, str]:
    """Return the `models` record of a ranker and its version.

    Parameters
    ----------
    model
        The objectives, or the text of one booster.
    left_out
        Objectives that could not be learnt, with the number of their positives.
    """
    if isinstance(model, str):
        return artefact.encode(NAME, KIND, model.encode(), SPEC.names, created_ts, metrics)
    body = to_body(model, left_out or {})
    return artefact.encode(NAME, KIND_OF_OBJECTIVES, body, SPEC.names, created_ts, metrics)


def decode(value: bytes) -> Ranker:
    """Return the ranker in a `models` record; raise ``ArtefactError`` when it does not fit.

    Records of older versions have the text of one booster.
    """
    document = artefact.decode(value)
    found = of_body(document["body"], document["kind"], document["features"], document["version"])
    found.auc = document["metrics"].get("auc")
    return found


def of_body(body: bytes, kind: str, features: tuple[str, ...], version: str) -> Ranker:
    """Return the ranker in the body of an artefact; raise ``ArtefactError`` when it does not fit."""
    if kind not in (KIND, KIND_OF_OBJECTIVES):
        raise ArtefactError(
            f"ranker {version}: kind is {kind!r}, expected {KIND!r} or {KIND_OF_OBJECTIVES!r}"
        )
    model = body.decode("utf-8", "replace") if kind == KIND else from_body(body)
    return Ranker(model, features, version)
