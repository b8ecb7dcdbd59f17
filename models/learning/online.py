"""The online click model: river's logistic regression on scaled inputs; serving uses it as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE_COLUMNS, ONLINE_NAMES
from headrace.models.learning import artefact
from headrace.streams.errors import ArtefactError

F32 = npt.NDArray[np.float32]

NAME = "online"
#: Scaled inputs are clipped to this many standard deviations: one extreme value must not decide a score.
CLIP = 8.0


@dataclass(slots=True)
class OnlineWeights:
    """The model as serving uses it: ``sigmoid(clip((x - mean) / scale) @ weights + bias)``.

    Arrays are ``(len(ONLINE_NAMES),)``.
    """

    mean: F32
    scale: F32
    weights: F32
    bias: float
    version: str = ""

    def predict(self, x: F32) -> F32:
        """Return click probabilities, float32 ``(n,)``, from full feature rows ``(n, len(SPEC))``."""
        z = np.clip((x[:, ONLINE_COLUMNS] - self.mean) / self.scale, -CLIP, CLIP) @ self.weights + self.bias
        out: F32 = (1 / (1 + np.exp(-np.clip(z, -30, 30)))).astype(np.float32)  # past 30, exp may overflow
        return out


def sound(weights: OnlineWeights) -> bool:
    """Return whether all numbers are finite and every scale is positive: whether a model can be used."""
    arrays = (weights.mean, weights.scale, weights.weights)
    return (
        math.isfinite(weights.bias)
        and all(bool(np.isfinite(array).all()) for array in arrays)
        and bool((weights.scale > 0).all())
    )


class OnlineLearner:
    """river's ``StandardScaler | LogisticRegression`` over the shared features, with its rolling quality."""

    def __init__(self, learning_rate: float = 0.05, l2: float = 1e-4) -> None:
        # Serving reads this module for the weights only; river takes a second to import.
        from river import linear_model, metrics, optim, preprocessing

        self._scaler = preprocessing.StandardScaler()
        self._model = linear_model.LogisticRegression(
            optimizer=optim.Adam(learning_rate), l2=l2, intercept_lr=0.05
        )
        self._auc = metrics.RollingROCAUC(window_size=5000)
        self._loss_sum = 0.0
        self._scored = 0
        self.seen = 0
        self.clicks = 0

    def learn(self, x: F32, clicked: npt.NDArray[np.bool_]) -> None:
        """Score the batch with the model so far (progressive validation), then learn it.

        Parameters
        ----------
        x
            float32 ``(n, len(SPEC))``. Rows that are not finite are left out: one of them would turn every
            weight into NaN for good.
        clicked
            bool ``(n,)``.
        """
        finite = np.isfinite(x).all(1)
        if not finite.all():
            x, clicked = x[finite], clicked[finite]
        if not len(x):
            return
        if self.seen:
            self._validate(x, clicked)
        online = x[:, ONLINE_COLUMNS].astype(np.float64)
        self._scaler.learn_many(_table(online))
        mean, scale = self._moments()
        z = np.clip((online - mean) / scale, -CLIP, CLIP)
        for start in range(0, len(z), 64):  # one gradient step for each 64 examples, however many there are
            part = slice(start, start + 64)
            self._model.learn_many(_table(z[part]), _column(clicked[part]))
        self.seen += len(x)
        self.clicks += int(clicked.sum())

    def _validate(self, x: F32, clicked: npt.NDArray[np.bool_]) -> None:
        p = self.weights().predict(x)
        q = np.clip(np.where(clicked, p, 1 - p), 1e-6, 1)
        self._loss_sum += float(-np.log(q).sum())
        self._scored += len(x)
        for truth, score in zip(clicked.tolist(), p.tolist(), strict=True):
            self._auc.update(truth, score)

    def _moments(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        mean = np.array([self._scaler.means[n] for n in ONLINE_NAMES])
        var = np.array([self._scaler.vars[n] for n in ONLINE_NAMES])
        return mean, np.where(var > 1e-12, np.sqrt(np.maximum(var, 0)), 1.0)

    def weights(self) -> OnlineWeights:
        """Return the current model as arrays."""
        mean, scale = self._moments()
        w = np.array([self._model.weights.get(n, 0.0) for n in ONLINE_NAMES], np.float32)
        bias = float(self._model.intercept)
        return OnlineWeights(mean.astype(np.float32), scale.astype(np.float32), w, bias)

    def restore(self, weights: OnlineWeights, seen: int, clicks: int) -> None:
        """Continue from published weights, learnt from ``seen`` examples; the rolling quality is reset."""
        for i, name in enumerate(ONLINE_NAMES):
            self._scaler.means[name] = float(weights.mean[i])
            self._scaler.vars[name] = float(weights.scale[i]) ** 2
            self._scaler.counts[name] = seen
            self._model._weights[name] = float(weights.weights[i])
        self._model.intercept = weights.bias
        self.seen, self.clicks = seen, clicks

    def quality(self) -> dict[str, float]:
        """Return the rolling AUC, the mean log-loss, and the numbers of examples and clicks learnt."""
        auc = float(self._auc.get()) if self.clicks else 0.5
        loss = self._loss_sum / self._scored if self._scored else 0.0
        return {
            "auc": 0.5 if math.isnan(auc) else auc,
            "log_loss": loss,
            "examples": float(self.seen),
            "clicks": float(self.clicks),
        }


def _table(x: npt.NDArray[np.float64]) -> Any:
    import pyarrow as pa

    return pa.table({n: x[:, i] for i, n in enumerate(ONLINE_NAMES)})


def _column(clicked: npt.NDArray[np.bool_]) -> Any:
    import pyarrow as pa

    return pa.chunked_array([clicked.astype(np.int64)])


class _Body(msgspec.Struct):
    mean: list[float]
    scale: list[float]
    weights: list[float]
    bias: float
    read: dict[int, int] = {}


def encode(
    weights: OnlineWeights, created_ts: int, quality: dict[str, float], read: Mapping[int, int] | None = None
) -> tuple[bytes, str]:
    """Return the `models` record of the online model and its version.

    Parameters
    ----------
    read
        By partition of `examples`, the offset after the last example that the weights have learnt.
    """
    body = msgspec.json.encode(
        {
            "mean": weights.mean.tolist(),
            "scale": weights.scale.tolist(),
            "weights": weights.weights.tolist(),
            "bias": weights.bias,
            "read": read or {},
        }
    )
    return artefact.encode(NAME, "logistic", body, ONLINE_NAMES, created_ts, quality)


def decode(value: bytes) -> OnlineWeights:
    """Return the online model in a `models` record; raise ``ArtefactError`` when it does not fit."""
    document = artefact.decode(value)
    artefact.check_features(f"online {document['version']}", tuple(document["features"]), ONLINE_NAMES)
    try:
        body = msgspec.json.decode(document["body"], type=_Body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise ArtefactError(f"online {document['version']}: {exc}") from exc
    with np.errstate(over="ignore"):  # becomes infinite, and is refused for it
        arrays = {k: np.array(getattr(body, k), np.float32) for k in ("mean", "scale", "weights")}
    for name, array in arrays.items():
        if array.shape != (len(ONLINE_NAMES),) or not np.isfinite(array).all():
            raise ArtefactError(
                f"online {document['version']}: {name} must be {len(ONLINE_NAMES)} finite numbers, "
                f"got {len(array)} of which {int(np.isfinite(array).sum())} finite"
            )
    if not (arrays["scale"] > 0).all():
        raise ArtefactError(f"online {document['version']}: scale must be positive")
    return OnlineWeights(bias=body.bias, version=document["version"], **arrays)


def read_up_to(value: bytes) -> tuple[dict[int, int], int]:
    """Return which examples a published online model has learnt, and when it was published (ms).

    The offset after the last example by partition of `examples`; empty when the model does not say.
    """
    document = artefact.decode(value)
    return msgspec.json.decode(document["body"], type=_Body).read, int(document["created_ts"])


def learnt(value: bytes) -> tuple[int, int]:
    """Return how many examples and clicks a published online model learnt from; 0 where it does not say."""
    metrics = artefact.decode(value).get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    counts = (metrics.get(name, 0) for name in ("examples", "clicks"))
    examples, clicks = (int(c) if isinstance(c, int | float) and 0 <= c < 2**53 else 0 for c in counts)
    return examples, clicks
