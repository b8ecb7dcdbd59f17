"""Learns the online model, one example after another, and watches how good it is.

It has a head for each objective (`objectives`, `heads`): weights and hashed terms of its own, on inputs that
all of them share. Several learners share the work: each gives away what it has learnt since the last time
(``OnlinePart``), and ``OnlineLearner.grow`` puts the parts of all of them into one model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE_COLUMNS, ONLINE_NAMES
from headrace.models.learning import objectives
from headrace.models.learning.hashed import Ids
from headrace.models.learning.heads import HeadLearner, HeadPart
from headrace.models.learning.objectives import CLICK, OBJECTIVES
from headrace.models.learning.online import CLIP, Head, OnlineWeights

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


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


@dataclass(slots=True)
class OnlinePart:
    """What one learner has learnt since some point.

    Attributes
    ----------
    seen
        See ``OnlineLearner``: those since then.
    moments
        Of the columns of the examples since then.
    heads
        What it has learnt of each objective.
    """

    seen: int = 0
    moments: Moments = field(default_factory=lambda: Moments(len(ONLINE_NAMES)))
    heads: dict[str, HeadPart] = field(default_factory=lambda: {name: HeadPart() for name in OBJECTIVES})

    @property
    def steps(self) -> int:
        """How many steps all heads have taken; 0: nothing was learnt."""
        return sum(head.steps for head in self.heads.values())

    @property
    def clicks(self) -> int:
        """How many clicks were learnt."""
        return self.heads[CLICK].happened

    def then(self, later: OnlinePart) -> OnlinePart:
        """Return both, one after the other."""
        moments = Moments(len(self.moments.mean))
        for part in (self, later):
            moments.merge(part.moments)
        heads = {name: head.then(later.heads[name]) for name, head in self.heads.items()}
        return OnlinePart(self.seen + later.seen, moments, heads)

    def sound(self) -> bool:
        """Return whether all numbers are finite."""
        columns = (self.moments.mean, self.moments.var)
        return all(head.sound() for head in self.heads.values()) and all(
            bool(np.isfinite(c).all()) for c in columns
        )


class OnlineLearner:
    """The online model and its rolling quality.

    Attributes
    ----------
    seen
        How many examples it has learnt.
    """

    def __init__(self) -> None:
        self._moments = Moments(len(ONLINE_NAMES))
        self._heads = {name: HeadLearner() for name in OBJECTIVES}
        self.seen = 0
        self._begin_part()

    @property
    def clicks(self) -> int:
        """How many clicks it has learnt."""
        return self._heads[CLICK].happened

    def learn(self, x: F32, happened: Bool, ids: Ids | None = None, *, early: bool = False) -> None:
        """Score the batch with the model so far (progressive validation), then learn it.

        Parameters
        ----------
        x
            float32 ``(n, len(SPEC))``. Rows that are not finite are left out: one of them would turn every
            weight into NaN for good.
        happened
            By objective, bool ``(n, len(OBJECTIVES))``.
        ids
            Whose rows they are; without, no hashed terms are learnt.
        early
            Outcomes were not waited for: each example comes as one to which nothing happened, and again with
            what happened to it later (`early_join`). Then it is learnt only of the objectives that it has.
        """
        finite = np.asarray(np.isfinite(x).all(1))
        if not finite.all():
            x, happened = x[finite], happened[finite]
            ids = None if ids is None else ids.where(finite)
        if not len(x):
            return
        first = np.asarray(~happened.any(1)) if early else np.ones(len(x), bool)
        foreseen = self.weights().foreseen(x, ids) if self.seen else {}
        z = self._scaled(x, first)
        slots = np.zeros((len(x), 0), np.uint32) if ids is None else ids.terms()
        for k, (name, head) in enumerate(self._heads.items()):
            rows = first | happened[:, k]
            if foreseen:
                head.rolling.add(foreseen[name][rows], happened[rows, k], early=early)
            head.learn(z[rows], slots[rows], happened[rows, k], early=early)
        seen = int(first.sum())
        self.seen += seen
        self._part_seen += seen

    def _scaled(self, x: F32, first: Bool) -> F64:
        """Return the scaled columns; ``first``: which rows come for the first time."""
        online = x[:, ONLINE_COLUMNS].astype(np.float64)
        if first.any():
            for moments in (self._moments, self._part_moments):
                moments.add(online[first])
        out: F64 = np.clip((online - self._moments.mean) / self._moments.scale(), -CLIP, CLIP)
        return out

    def _begin_part(self) -> None:
        self._part_seen, self._part_moments = 0, Moments(len(ONLINE_NAMES))

    def take_part(self) -> OnlinePart:
        """Return what was learnt since the last call, or since the model was restored or has grown."""
        heads = {name: head.take_part() for name, head in self._heads.items()}
        part = OnlinePart(self._part_seen, self._part_moments, heads)
        self._begin_part()
        return part

    def grow(self, parts: Sequence[OnlinePart]) -> None:
        """Take in what learners have learnt that began with the present model; one after another, if one."""
        for name, head in self._heads.items():
            head.grow([part.heads[name] for part in parts])
        for part in parts:
            self._moments.merge(part.moments)
            self.seen += part.seen
        self._begin_part()

    def weights(self) -> OnlineWeights:
        """Return the current model as arrays. Terms that are almost forgotten are 0."""
        heads = {name: head.head() for name, head in self._heads.items()}
        click = heads.pop(CLICK)
        return OnlineWeights(
            self._moments.mean.astype(np.float32),
            self._moments.scale().astype(np.float32),
            click.weights,
            click.bias,
            terms=click.terms,
            squares=click.squares,
            heads=heads,
        )

    def shares(self, weights: Mapping[str, float], least: int) -> dict[str, float]:
        """Return what each objective counts in the score of a list; see ``objectives.shares``.

        Empty while none of those that have a weight can be learnt: then the score is that of a click.
        """
        return objectives.shares(weights, self.happened(), self.seen, least)

    def happened(self) -> dict[str, int]:
        """Return how many positives of each objective it has learnt."""
        return {name: head.happened for name, head in self._heads.items()}

    def restore(self, weights: OnlineWeights, seen: int, clicks: int) -> None:
        """Continue from published weights, learnt from ``seen`` examples; the rolling quality stays.

        Heads that they do not have begin anew.
        """
        self._moments.mean = weights.mean.astype(np.float64)
        self._moments.var = weights.scale.astype(np.float64) ** 2
        self._moments.count = seen
        click = Head(weights.weights, weights.bias, weights.terms, weights.squares, clicks)
        for name, head in self._heads.items():
            head.restore(click if name == CLICK else weights.heads.get(name) or Head.none())
        self.seen = seen
        self._begin_part()

    def go_on_as(self, other: OnlineLearner) -> None:
        """Continue with the model of another learner; the rolling quality stays."""
        self._moments = Moments(len(ONLINE_NAMES))
        self._moments.merge(other._moments)
        for name, head in self._heads.items():
            head.go_on_as(other._heads[name])
        self.seen = other.seen
        self._begin_part()

    def quality(self) -> dict[str, float]:
        """Return the rolling quality of each objective, and how much was learnt.

        By ``objectives.figure_name``, those of ``Rolling.figures``; examples, positives of each objective.
        """
        figures = {
            objectives.figure_name(name, what): value
            for name, head in self._heads.items()
            for what, value in head.rolling.figures().items()
        }
        counts = {objectives.count_name(name): float(count) for name, count in self.happened().items()}
        return {**figures, "examples": float(self.seen), **counts}
