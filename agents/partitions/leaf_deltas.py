"""The leaf deltas of the live ranker, as the `learn` agent keeps them. Pure.

ranker A ... deltas of A ... ranker B            -> begin with the values of B
ranker A ... deltas of A ... (restart)           -> go on with these deltas
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.models.learning import leaves, online
from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaf_learner import LeafLearner
from headrace.models.learning.leaves import LeafDeltas
from headrace.models.learning.shelf import Shelf
from headrace.models.learning.trees import UnlikeError
from headrace.streams.errors import ArtefactError

log = logging.getLogger(__name__)


class _Record(NamedTuple):
    key: bytes | None
    value: bytes | None


class RankerLeaves:
    """Follows the ranker; learns how far its leaves move.

    Attributes
    ----------
    learner
        None while there is no ranker whose leaves can move.
    """

    def __init__(self) -> None:
        self.learner: LeafLearner | None = None
        self._shelf = Shelf()
        self._good: tuple[LeafDeltas, int] | None = (
            None  # the last published deltas, and what they learnt from
        )
        self._published = 0

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Follow one record of `models`, in their order."""
        try:
            if key == leaves.NAME.encode() and value is not None:
                if self.learner is not None and self.learner.steps:
                    return  # it is our own, and older than what is learnt
                self._good = leaves.decode(value), online.learnt(value)[0]
                self._go_on()
            elif self._shelf.apply([_Record(key, value)]):
                self._follow_live()
        except (ArtefactError, UnlikeError, ValueError) as exc:
            log.warning("the leaves of a ranker do not move: %s", exc, extra={"action": "leaves_stay"})

    def _follow_live(self) -> None:
        """Begin anew when another ranker is live."""
        live = self._shelf.pointers.live
        text = self._shelf.texts.get(live)
        if text is None or (self.learner is not None and self.learner.ranker == live):
            return
        self.learner = None  # its trees may be of a kind that cannot move
        self.learner, self._published = LeafLearner(*leaves.trees_of(text)), 0
        self._go_on()

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
