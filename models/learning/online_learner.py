"""Learns the online click model, one example after another, and watches how good it is.

Several learners share the work: each gives away what it has learnt since the last time (``OnlinePart``), and
``OnlineLearner.grow`` puts the parts of all of them into one model.

The steps are compiled (`steps`): river's ``LogisticRegression`` takes 50 us of CPU for an example, most of it
around the arithmetic. A test compares the two, which take the same steps. river watches the quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE_COLUMNS, ONLINE_NAMES
from headrace.models.learning.growth import Growth, together
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
#: Columns are correlated: together they go so many times as fast to where they fit as one of them alone.
#: Eight learners with correlated columns made the log-loss of one with 10 to 60, and a worse one with 1.
AT_ONCE = 20


class Moments:
    """Running mean and variance of the columns (Chan et al. 1983: the moments of two parts are merged)."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = np.zeros(width)
        self.var = np.zeros(width)

    def add(self, x: F64) -> None:
        """Take rows ``(n, width)`` in."""
        self._merge(len(x), x.mean(0), x.var(0))

    def merge(self, other: Moments) -> None:
        """Take the rows of others in."""
        if other.count:
            self._merge(other.count, other.mean, other.var)

    def _merge(self, n: int, mean: F64, var: F64) -> None:
        share = n / (self.count + n)
        away = mean - self.mean
        self.mean = self.mean + away * share
        self.var = self.var * (1 - share) + var * share + away**2 * share * (1 - share)
        self.count += n

    def scale(self) -> F64:
        """Return the standard deviations, 1 for a column that never changed, float64 ``(width,)``."""
        out: F64 = np.where(self.var > 1e-12, np.sqrt(np.maximum(self.var, 0)), 1.0)
        return out


def kept_after(steps: int) -> float:
    """Return the share that is not forgotten after so many steps."""
    return float(0.5 ** (steps / HALF_LIFE))


@dataclass(slots=True)
class OnlinePart:
    """What one learner has learnt since some point.

    Attributes
    ----------
    steps, seen, clicks
        See ``OnlineLearner``: those since then.
    moments
        Of the columns of the examples since then.
    weights, terms
        How far weights and bias ``(len(ONLINE_NAMES) + 1,)`` and hashed terms ``(SLOTS,)`` have moved, apart
        from what was forgotten.
    """

    steps: int = 0
    seen: int = 0
    clicks: int = 0
    moments: Moments = field(default_factory=lambda: Moments(len(ONLINE_NAMES)))
    weights: Growth = field(default_factory=lambda: Growth.none(len(ONLINE_NAMES) + 1))
    terms: Growth = field(default_factory=lambda: Growth.none(SLOTS))

    def then(self, later: OnlinePart) -> OnlinePart:
        """Return both, one after the other."""
        moments, kept = Moments(len(self.moments.mean)), kept_after(later.steps)
        for part in (self, later):
            moments.merge(part.moments)
        return OnlinePart(
            self.steps + later.steps,
            self.seen + later.seen,
            self.clicks + later.clicks,
            moments,
            self.weights.then(later.weights, squares=kept),
            self.terms.then(later.terms, moved=kept, squares=kept),
        )

    def sound(self) -> bool:
        """Return whether all numbers are finite."""
        columns = (self.moments.mean, self.moments.var)
        return self.weights.sound() and self.terms.sound() and all(np.isfinite(c).all() for c in columns)


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
        self._begin_part()

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
        seen, clicks = int((~clicked).sum()) if early else len(x), int(clicked.sum())
        for counted in (self, self._part):
            counted.steps += len(x)
            counted.seen += seen
            counted.clicks += clicks

    def _step(self, x: F32, clicked: Bool, ids: Ids | None, early: bool) -> None:
        online = x[:, ONLINE_COLUMNS].astype(np.float64)
        if not (early and clicked.all()):
            for moments in (self._moments, self._part.moments):
                moments.add(online[~clicked] if early else online)
        z = np.clip((online - self._moments.mean) / self._moments.scale(), -CLIP, CLIP)
        slots = np.zeros((len(x), 0), np.uint32) if ids is None else ids.terms()
        before, kept, terms = self._squares.copy(), kept_after(len(x)), self._part.terms
        learn_linear(
            np.ascontiguousarray(z),
            slots,
            clicked.astype(np.uint8),
            self._weights,
            self._squares,
            self._terms,
            terms.squares,
            STEP,
            TERM_STEP,
            early,
        )
        self._part.weights.squares = (self._part.weights.squares + self._squares - before) * kept
        terms.squares *= kept
        self._terms *= kept
        self._squares = np.maximum(self._squares * kept, 1.0)

    def _begin_part(self) -> None:
        self._part = OnlinePart()
        self._part_of = self._weights.copy(), self._terms.copy()

    def take_part(self) -> OnlinePart:
        """Return what was learnt since the last call, or since the model was restored or has grown."""
        part, (weights, terms) = self._part, self._part_of
        part.weights.moved = self._weights - weights
        touched = part.terms.squares != 0
        part.terms.moved = np.where(touched, self._terms - terms * kept_after(part.steps), 0.0)
        self._begin_part()
        return part

    def grow(self, parts: Sequence[OnlinePart]) -> None:
        """Take in what learners have learnt that began with the present model; one after another, if one."""
        kept = kept_after(sum(p.steps for p in parts))
        grown = np.sum([p.weights.squares for p in parts], 0)
        self._squares = np.maximum(self._squares * kept + grown, 1.0)
        rate = AT_ONCE * STEP / np.sqrt(self._squares)
        self._weights = self._weights + together([p.weights for p in parts], rate)
        self._terms = self._terms * kept + together([p.terms for p in parts], TERM_STEP)
        for part in parts:
            self._moments.merge(part.moments)
            self.seen += part.seen
            self.clicks += part.clicks
        self._begin_part()

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
        """Continue from published weights, learnt from ``seen`` examples; the rolling quality stays."""
        self._moments.mean = weights.mean.astype(np.float64)
        self._moments.var = weights.scale.astype(np.float64) ** 2
        self._moments.count = seen
        self._weights = np.append(weights.weights, weights.bias).astype(np.float64)
        self._squares = weights.squares.astype(np.float64)
        self._terms = weights.terms.astype(np.float64)
        self.seen, self.clicks = seen, clicks
        self._begin_part()

    def go_on_as(self, other: OnlineLearner) -> None:
        """Continue with the model of another learner; the rolling quality stays."""
        self._moments = Moments(len(ONLINE_NAMES))
        self._moments.merge(other._moments)
        self._weights, self._squares = other._weights.copy(), other._squares.copy()
        self._terms = other._terms.copy()
        self.seen, self.clicks = other.seen, other.clicks
        self._begin_part()

    def quality(self) -> dict[str, float]:
        """Return the rolling quality (``Rolling.figures``), and the numbers of examples and clicks learnt."""
        return {**self._rolling.figures(), "examples": float(self.seen), "clicks": float(self.clicks)}
