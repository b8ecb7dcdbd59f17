"""The leaf deltas of the ranker on `models`, as the `learn` agent keeps them. Pure.

ranker A ... deltas of A ... ranker B            -> begin with the values of B
ranker A ... deltas of A ... (restart)           -> go on with these deltas
"""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from headrace.models.learning import leaves, online
from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaf_learner import LeafLearner
from headrace.models.learning.leaves import LeafDeltas
from headrace.models.learning.trees import UnlikeError
from headrace.streams.errors import ArtefactError

log = logging.getLogger(__name__)


class RankerLeaves:
    """Follows the ranker; learns how far its leaves move.

    Attributes
    ----------
    learner
        None while there is no ranker whose leaves can move.
    """

    def __init__(self) -> None:
        self.learner: LeafLearner | None = None
        self._good: tuple[LeafDeltas, int] | None = (
            None  # the last published deltas, and what they learnt from
        )
        self._published = 0

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Follow one record of `models`, in their order."""
        if value is None or key not in {leaves.RANKER.encode(), leaves.NAME.encode()}:
            return
        try:
            if key == leaves.NAME.encode():
                if self.learner is not None and self.learner.steps:
                    return  # it is our own, and older than what is learnt
                self._good = leaves.decode(value), online.learnt(value)[0]
            else:
                trees, version = leaves.trees_of(value)
                if self.learner is not None and self.learner.ranker == version:
                    return
                self.learner, self._published = LeafLearner(trees, version), 0
            self._go_on()
        except (ArtefactError, UnlikeError, ValueError) as exc:
            log.warning("the leaves of a ranker do not move: %s", exc, extra={"action": "leaves_stay"})
            if key == leaves.RANKER.encode():
                self.learner = None

    def _go_on(self) -> None:
        """Continue from the last published deltas, if they are of this ranker."""
        if self.learner is not None and self._good is not None and self.learner.restore(*self._good):
            log.info("leaf deltas of ranker %s go on", self.learner.ranker)

    def learn(
        self, x: npt.NDArray[np.float32], clicked: npt.NDArray[np.bool_], ids: Ids, *, early: bool = False
    ) -> None:
        """Learn examples; see ``LeafLearner.learn``."""
        if self.learner is not None:
            self.learner.learn(x, clicked, ids, early=early)

    def to_publish(self) -> tuple[LeafDeltas, dict[str, float]] | None:
        """Return deltas and their quality if there is anything new; what is not finite is dropped."""
        learner = self.learner
        if learner is None or learner.steps == self._published:
            return None
        found = learner.deltas()
        if not leaves.sound(found):
            log.error(
                "leaf deltas are not finite any more: the last %d examples are not used",
                learner.steps - self._published,
                extra={"action": "leaves_not_finite", "count": learner.steps - self._published},
            )
            learner.start_again()
            self._published = 0
            self._go_on()
            return None
        self._good, self._published = (found, learner.seen), learner.steps
        return found, learner.quality()
