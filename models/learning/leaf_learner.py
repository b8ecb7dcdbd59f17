"""Moves the leaf values of a ranker, one example after another, and watches whether that makes it better.

Measured, newest fifth, position unknown, ranker of the first half of the log (AUC over all / within lists):

=====================  ===============  ===============
..                     demo, 50 k rows  Globo, 215 k
=====================  ===============  ===============
left alone             .660 / .629      .758 / .744
with leaf steps        .675 / .648      .772 / .759
trained on four fifth  .677 / .654      .774 / .761
=====================  ===============  ===============

Steps by list (softmax) were as good within lists, but lost the calibration.

Several learners share the work as those of the online model do (`online_learner`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.models.learning.growth import Growth, together
from headrace.models.learning.hashed import SLOTS, Ids
from headrace.models.learning.heads import TERM_STEP, kept_after
from headrace.models.learning.leaf_steps import learn_leaves
from headrace.models.learning.leaves import MOST_DELTA, LeafDeltas
from headrace.models.learning.rolling import Sums, losses
from headrace.models.learning.trees import Trees

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: Step of a leaf (AdaGrad): each of about a hundred trees takes it.
STEP = 0.003
#: Share of a delta that every step forgets: it is pulled back to the trained value.
PULL = 1e-4
#: With fewer examples nobody can tell whether deltas help: they are not used.
FEW = 500


@dataclass(slots=True)
class LeafPart:
    """What one learner has learnt of the leaves of a ranker since some point.

    Attributes
    ----------
    ranker
        Its version.
    deltas, terms
        How far the deltas, by leaf ``(n_leaves,)``, and hashed terms ``(SLOTS,)`` have moved, apart from what
        was forgotten.
    steps, seen
        See ``LeafLearner``: those since then.
    losses
        Sums of the log-loss without and with deltas, float64 ``(2,)``.
    """

    ranker: str
    deltas: Growth
    terms: Growth = field(default_factory=lambda: Growth.none(SLOTS))
    steps: int = 0
    seen: int = 0
    losses: F64 = field(default_factory=lambda: np.zeros(2))

    def then(self, later: LeafPart) -> LeafPart:
        """Return both, one after the other; only the later one when they are of different rankers."""
        if self.ranker != later.ranker:
            return later
        kept = kept_after(later.steps)
        return LeafPart(
            self.ranker,
            self.deltas.then(later.deltas, squares=kept),
            self.terms.then(later.terms, moved=kept, squares=kept),
            self.steps + later.steps,
            self.seen + later.seen,
            self.losses + later.losses,
        )

    def sound(self) -> bool:
        """Return whether all numbers are finite."""
        return self.deltas.sound() and self.terms.sound() and bool(np.isfinite(self.losses).all())


class LeafLearner:
    """The deltas of one ranker.

    Attributes
    ----------
    ranker
        Its version.
    seen
        How many examples it has learnt.
    steps
        How many of them in this process, and clicks that came later.
    """

    def __init__(self, trees: Trees, ranker: str) -> None:
        if trees.slope is None:
            raise ValueError("leaves are moved by the log-loss of clicks: the ranker must give probabilities")
        self._trees, self._slope = trees, trees.slope
        self.ranker = ranker
        self.start_again()

    def start_again(self) -> None:
        """Return to the trained values."""
        m = len(self._trees.values)
        self._deltas, self._squares, self._terms = np.zeros(m), np.ones(m), np.zeros(SLOTS)
        self._sums = Sums(2)
        self.seen = self.steps = 0
        self._begin_part()

    def learn(self, x: F32, clicked: Bool, ids: Ids, *, early: bool = False) -> None:
        """Score each example without and with what was learnt before it, then learn it.

        Parameters
        ----------
        x
            float32 ``(n, len(SPEC))``; rows that are not finite are left out.
        clicked
            bool ``(n,)``.
        ids
            Whose rows they are ``(n,)``.
        early
            Outcomes were not waited for: each example comes as not clicked, and if it is clicked, it comes
            again (`early_join`).
        """
        finite = np.asarray(np.isfinite(x).all(1))
        x, clicked, ids = x[finite], clicked[finite], ids.where(finite)
        if not len(x):
            return
        before, kept, part = self._squares.copy(), kept_after(len(x)), self._part
        raw = learn_leaves(
            self._trees.find(x),
            ids.pair(),
            clicked.astype(np.uint8),
            self._trees.values,
            self._slope,
            self._deltas,
            self._squares,
            self._terms,
            part.terms.squares,
            STEP,
            TERM_STEP,
            PULL,
            MOST_DELTA,
            early,
        )
        without, with_ = (self._trees.score(raw[:, column]) for column in (0, 1))
        sums = np.array([losses(p, clicked, early=early).sum() for p in (without, with_)])
        count = int((~clicked).sum()) if early else len(x)
        self._sums.add(count, sums)
        part.deltas.squares = (part.deltas.squares + (self._squares - before)[self._trees.leaves]) * kept
        part.terms.squares *= kept
        part.losses = part.losses + sums
        self._terms *= kept
        self._squares = np.maximum(self._squares * kept, 1.0)
        for counted in (self, part):
            counted.steps += len(x)
            counted.seen += count

    def _begin_part(self) -> None:
        self._part = LeafPart(self.ranker, Growth.none(len(self._trees.leaves)))
        self._part_of = self._deltas[self._trees.leaves], self._terms.copy()

    def take_part(self) -> LeafPart:
        """Return what was learnt since the last call, or since the deltas were restored or have grown."""
        part, (deltas, terms) = self._part, self._part_of
        part.deltas.moved = self._deltas[self._trees.leaves] - deltas
        touched = part.terms.squares != 0
        part.terms.moved = np.where(touched, self._terms - terms * kept_after(part.steps), 0.0)
        self._begin_part()
        return part

    def grow(self, parts: Sequence[LeafPart]) -> None:
        """Take in what learners have learnt that began with the present deltas; one after another, if one."""
        leaves, kept = self._trees.leaves, kept_after(sum(p.steps for p in parts))
        grown = np.sum([p.deltas.squares for p in parts], 0)
        squares = self._squares[leaves] = np.maximum(self._squares[leaves] * kept + grown, 1.0)
        # All trees move at once: an example is left that many times as fast as by one of them.
        rate = self._trees.count * STEP / np.sqrt(squares)
        moved = self._deltas[leaves] + together([p.deltas for p in parts], rate)
        self._deltas[leaves] = np.clip(moved, -MOST_DELTA, MOST_DELTA)
        self._terms = self._terms * kept + together([p.terms for p in parts], TERM_STEP)
        for part in parts:
            self._sums.add(part.seen, part.losses)
            self.seen += part.seen
        self._begin_part()

    def quality(self) -> dict[str, float]:
        """Return the rolling log-loss without and with the deltas, and the number of examples learnt."""
        without, with_ = (self._sums.total() / max(1, self._sums.count)).tolist()
        return {"log_loss_without": without, "log_loss": with_, "examples": float(self.seen)}

    def deltas(self) -> LeafDeltas:
        """Return the present deltas, and whether the ranker is better with them."""
        quality, leaves = self.quality(), self._trees.leaves
        better = quality["log_loss"] < quality["log_loss_without"]
        return LeafDeltas(
            self.ranker,
            self._deltas[leaves].astype(np.float32),
            self._squares[leaves].astype(np.float32),
            bool(better and self._sums.count >= FEW),
            np.where(np.abs(self._terms) < 1e-4, 0, self._terms).astype(np.float32),
        )

    def restore(self, found: LeafDeltas, seen: int) -> bool:
        """Continue from published deltas if they are of this ranker; return whether they are."""
        leaves = self._trees.leaves
        if found.ranker != self.ranker or len(found.deltas) != len(leaves):
            return False
        self._deltas[leaves], self._squares[leaves] = found.deltas, found.squares
        self._terms = found.terms.astype(np.float64)
        self.seen = seen
        self._begin_part()
        return True

    def go_on_as(self, other: LeafLearner) -> None:
        """Continue with the deltas of another learner of the same ranker; the rolling log-loss stays."""
        self._deltas, self._squares = other._deltas.copy(), other._squares.copy()
        self._terms, self.seen = other._terms.copy(), other.seen
        self._begin_part()
