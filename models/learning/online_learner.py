"""Learns the online click model, one example after another, and watches how good it is.

The steps are compiled (`steps`): river's ``LogisticRegression`` takes 50 us of CPU for an example, most of it
around the arithmetic. A test compares the two, which take the same steps. river watches the quality.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE_COLUMNS, ONLINE_NAMES
from headrace.models.learning.hashed import SLOTS, Ids
from headrace.models.learning.online import CLIP, OnlineWeights
from headrace.models.learning.rolling import Rolling
from headrace.models.learning.steps import learn_linear

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: Step of a weight (AdaGrad), and of a hashed term: of those between .01 and .2, the best on the logs of a
#: demo and of Globo.
STEP, TERM_STEP = 0.05, 0.02
#: After so many examples half is forgotten: of a term whose id does not come any more, and of past gradients
#: (so that steps do not become ever smaller).
HALF_LIFE = 500_000


class Moments:
    """Running mean and variance of the columns (Chan et al. 1983: the moments of two parts are merged)."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = np.zeros(width)
        self.var = np.zeros(width)

    def add(self, x: F64) -> None:
        """Take rows ``(n, width)`` in."""
        n, share = len(x), len(x) / (self.count + len(x))
        away = x.mean(0) - self.mean
        self.mean = self.mean + away * share
        self.var = self.var * (1 - share) + x.var(0) * share + away**2 * share * (1 - share)
        self.count += n

    def scale(self) -> F64:
        """Return the standard deviations, 1 for a column that never changed, float64 ``(width,)``."""
        out: F64 = np.where(self.var > 1e-12, np.sqrt(np.maximum(self.var, 0)), 1.0)
        return out


class OnlineLearner:
    """The online model and its rolling quality.

    Attributes
    ----------
    seen, clicks
        How many examples, and clicks among them, it has learnt.
    steps
        How many of them in this process, and clicks that came later.
    """

    def __init__(self) -> None:
        n = len(ONLINE_NAMES)
        self._moments = Moments(n)
        self._weights, self._squares, self._terms = np.zeros(n + 1), np.ones(n + 1), np.zeros(SLOTS)
        self._rolling = Rolling()
        self.seen = self.steps = 0
        self.clicks = 0

    def learn(self, x: F32, clicked: Bool, ids: Ids | None = None, *, early: bool = False) -> None:
        """Score the batch with the model so far (progressive validation), then learn it.

        Parameters
        ----------
        x
            float32 ``(n, len(SPEC))``. Rows that are not finite are left out: one of them would turn every
            weight into NaN for good.
        clicked
            bool ``(n,)``.
        ids
            Whose rows they are; without, no hashed terms are learnt.
        early
            Outcomes were not waited for: each example comes as not clicked, and if it is clicked, it comes
            again (`early_join`).
        """
        finite = np.asarray(np.isfinite(x).all(1))
        if not finite.all():
            x, clicked = x[finite], clicked[finite]
            ids = None if ids is None else ids.where(finite)
        if not len(x):
            return
        if self.seen:
            self._rolling.add(self.weights().predict(x, ids), clicked, early=early)
        self._step(x, clicked, ids, early)
        self.steps += len(x)
        self.seen += int((~clicked).sum()) if early else len(x)
        self.clicks += int(clicked.sum())

    def _step(self, x: F32, clicked: Bool, ids: Ids | None, early: bool) -> None:
        online = x[:, ONLINE_COLUMNS].astype(np.float64)
        if not (early and clicked.all()):
            self._moments.add(online[~clicked] if early else online)
        z = np.clip((online - self._moments.mean) / self._moments.scale(), -CLIP, CLIP)
        slots = np.zeros((len(x), 0), np.uint32) if ids is None else ids.terms()
        learn_linear(
            np.ascontiguousarray(z),
            slots,
            clicked.astype(np.uint8),
            self._weights,
            self._squares,
            self._terms,
            STEP,
            TERM_STEP,
            early,
        )
        kept = 0.5 ** (len(x) / HALF_LIFE)
        self._terms *= kept
        self._squares = np.maximum(self._squares * kept, 1.0)

    def weights(self) -> OnlineWeights:
        """Return the current model as arrays. Terms that are almost forgotten are 0."""
        return OnlineWeights(
            self._moments.mean.astype(np.float32),
            self._moments.scale().astype(np.float32),
            self._weights[:-1].astype(np.float32),
            float(self._weights[-1]),
            terms=np.where(np.abs(self._terms) < 1e-4, 0, self._terms).astype(np.float32),
            squares=self._squares.astype(np.float32),
        )

    def restore(self, weights: OnlineWeights, seen: int, clicks: int) -> None:
        """Continue from published weights, learnt from ``seen`` examples; the rolling quality is reset."""
        self._moments.mean = weights.mean.astype(np.float64)
        self._moments.var = weights.scale.astype(np.float64) ** 2
        self._moments.count = seen
        self._weights = np.append(weights.weights, weights.bias).astype(np.float64)
        self._squares = weights.squares.astype(np.float64)
        self._terms = weights.terms.astype(np.float64)
        self.seen, self.clicks = seen, clicks

    def quality(self) -> dict[str, float]:
        """Return the rolling quality (``Rolling.figures``), and the numbers of examples and clicks learnt."""
        return {**self._rolling.figures(), "examples": float(self.seen), "clicks": float(self.clicks)}
