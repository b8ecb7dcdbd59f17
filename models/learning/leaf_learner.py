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
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.learning.hashed import SLOTS, Ids
from headrace.models.learning.leaf_steps import learn_leaves
from headrace.models.learning.leaves import MOST_DELTA, LeafDeltas
from headrace.models.learning.online_learner import HALF_LIFE, TERM_STEP
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
            Outcomes were not waited for; see ``OnlineLearner.learn``.
        """
        finite = np.asarray(np.isfinite(x).all(1))
        x, clicked, ids = x[finite], clicked[finite], ids.where(finite)
        if not len(x):
            return
        raw = learn_leaves(
            self._trees.find(x),
            ids.pair(),
            clicked.astype(np.uint8),
            self._trees.values,
            self._slope,
            self._deltas,
            self._squares,
            self._terms,
            STEP,
            TERM_STEP,
            PULL,
            MOST_DELTA,
            early,
        )
        without, with_ = (self._trees.score(raw[:, column]) for column in (0, 1))
        sums = [losses(p, clicked, early=early).sum() for p in (without, with_)]
        count = int((~clicked).sum()) if early else len(x)
        self._sums.add(count, np.array(sums))
        kept = 0.5 ** (len(x) / HALF_LIFE)
        self._terms *= kept
        self._squares = np.maximum(self._squares * kept, 1.0)
        self.steps += len(x)
        self.seen += count

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
        return True
