"""One objective of the online model: its weights and hashed terms, on inputs that all objectives share.

The steps are compiled (`steps`): river's ``LogisticRegression`` takes 50 us of CPU for an example, most of it
around the arithmetic. A test compares the two, which take the same steps. river watches the quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE_NAMES
from headrace.models.learning.growth import Growth, together
from headrace.models.learning.hashed import SLOTS
from headrace.models.learning.online import Head
from headrace.models.learning.rolling import Rolling
from headrace.models.learning.steps import learn_linear

F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]
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


def kept_after(steps: int) -> float:
    """Return the share that is not forgotten after so many steps."""
    return float(0.5 ** (steps / HALF_LIFE))


@dataclass(slots=True)
class HeadPart:
    """What one learner has learnt of one objective since some point.

    Attributes
    ----------
    steps, happened
        See ``HeadLearner``: those since then.
    weights, terms
        How far weights and bias ``(len(ONLINE_NAMES) + 1,)`` and hashed terms ``(SLOTS,)`` have moved, apart
        from what was forgotten.
    """

    steps: int = 0
    happened: int = 0
    weights: Growth = field(default_factory=lambda: Growth.none(len(ONLINE_NAMES) + 1))
    terms: Growth = field(default_factory=lambda: Growth.none(SLOTS))

    def then(self, later: HeadPart) -> HeadPart:
        """Return both, one after the other."""
        kept = kept_after(later.steps)
        return HeadPart(
            self.steps + later.steps,
            self.happened + later.happened,
            self.weights.then(later.weights, squares=kept),
            self.terms.then(later.terms, moved=kept, squares=kept),
        )

    def sound(self) -> bool:
        """Return whether all numbers are finite."""
        return self.weights.sound() and self.terms.sound()


class HeadLearner:
    """The weights of one objective, and how good they are lately.

    Attributes
    ----------
    rolling
        The quality; it stays when the head goes on from other weights.
    happened
        How many positives it has learnt.
    steps
        How many examples it has learnt in this process, positives that came later counted again.
    """

    def __init__(self) -> None:
        n = len(ONLINE_NAMES)
        self._weights, self._squares, self._terms = np.zeros(n + 1), np.ones(n + 1), np.zeros(SLOTS)
        self.rolling = Rolling()
        self.happened = self.steps = 0
        self._begin_part()

    def learn(self, z: F64, slots: U32, happened: Bool, *, early: bool = False) -> None:
        """Learn scaled columns ``(n, len(ONLINE_NAMES))``, hashed ``slots`` ``(n, k)``, outcomes ``(n,)``.

        ``early``: see ``OnlineLearner.learn``.
        """
        if not len(z):
            return
        before, kept, terms = self._squares.copy(), kept_after(len(z)), self._part.terms
        learn_linear(
            np.ascontiguousarray(z),
            np.ascontiguousarray(slots),
            happened.astype(np.uint8),
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
        for counted in (self, self._part):
            counted.steps += len(z)
            counted.happened += int(happened.sum())

    def _begin_part(self) -> None:
        self._part = HeadPart()
        self._part_of = self._weights.copy(), self._terms.copy()

    def take_part(self) -> HeadPart:
        """Return what was learnt since the last call, or since the head was restored or has grown."""
        part, (weights, terms) = self._part, self._part_of
        part.weights.moved = self._weights - weights
        touched = part.terms.squares != 0
        part.terms.moved = np.where(touched, self._terms - terms * kept_after(part.steps), 0.0)
        self._begin_part()
        return part

    def grow(self, parts: Sequence[HeadPart]) -> None:
        """Take in what learners have learnt that began with the present weights."""
        kept = kept_after(sum(p.steps for p in parts))
        grown = np.sum([p.weights.squares for p in parts], 0)
        self._squares = np.maximum(self._squares * kept + grown, 1.0)
        rate = AT_ONCE * STEP / np.sqrt(self._squares)
        self._weights = self._weights + together([p.weights for p in parts], rate)
        self._terms = self._terms * kept + together([p.terms for p in parts], TERM_STEP)
        self.happened += sum(p.happened for p in parts)
        self._begin_part()

    def head(self) -> Head:
        """Return the present numbers. Terms that are almost forgotten are 0."""
        return Head(
            self._weights[:-1].astype(np.float32),
            float(self._weights[-1]),
            np.where(np.abs(self._terms) < 1e-4, 0, self._terms).astype(np.float32),
            self._squares.astype(np.float32),
            self.happened,
        )

    def restore(self, head: Head) -> None:
        """Continue from published numbers."""
        self._weights = np.append(head.weights, head.bias).astype(np.float64)
        self._squares = head.squares.astype(np.float64)
        self._terms = head.terms.astype(np.float64)
        self.happened = head.happened
        self._begin_part()

    def go_on_as(self, other: HeadLearner) -> None:
        """Continue with the numbers of another learner."""
        self._weights, self._squares = other._weights.copy(), other._squares.copy()
        self._terms = other._terms.copy()
        self.happened = other.happened
        self._begin_part()
