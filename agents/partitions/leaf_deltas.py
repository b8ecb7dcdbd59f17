"""The leaf deltas of the live ranker, as the `learn` agent keeps them. Pure.

ranker A ... deltas of A ... ranker B            -> begin with the values of B
ranker A ... deltas of A ... (restart)           -> go on with these deltas
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.models.learning import leaves, online
from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaf_learner import LeafLearner, LeafPart
from headrace.models.learning.leaves import LeafDeltas
from headrace.models.learning.shelf import Shelf
from headrace.models.learning.trees import UnlikeError
from headrace.streams.errors import ArtefactError

log = logging.getLogger(__name__)


class _Record(NamedTuple):
    key: bytes | None
    value: bytes | None


class RankerLeaves:
    """Follows the live ranker; learns how far its leaves move.

    Attributes
    ----------
    learner
        None while there is no ranker whose leaves can move.
    newest
        The newest published or merged deltas, and from how many examples they were learnt.
    changed
        Whether there is anything to publish.
    """

    def __init__(self) -> None:
        self.learner: LeafLearner | None = None
        self._shelf = Shelf()
        self.newest: tuple[LeafDeltas, int] | None = None
        self._fresh: LeafPart | None = None  # learnt since them, and not given away
        self.changed = False

    def take(self, key: bytes | None, value: bytes | None, sent: LeafPart | None = None) -> None:
        """Follow one record of `models`, in their order.

        Parameters
        ----------
        sent
            A part that was given away, and that published deltas do not contain yet.
        """
        try:
            if key == leaves.NAME.encode() and value is not None:
                self.newest = leaves.decode(value), online.learnt(value)[0]
                self._go_on(sent)
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
        self.learner, self._fresh, self.changed = (
            None,
            None,
            False,
        )  # its trees may be of a kind that cannot move
        self.learner = LeafLearner(*leaves.trees_of(text))
        self._go_on(None)

    def _go_on(self, sent: LeafPart | None) -> None:
        """Continue from the newest deltas, if they are of this ranker, and with what they do not contain."""
        if self.learner is None or self.newest is None or self.newest[0].ranker != self.learner.ranker:
            return
        self._gather()
        if self.learner.restore(*self.newest):
            self._grow(sent, self._fresh)

    def _grow(self, *parts: LeafPart | None) -> None:
        """Take in parts, one after the other."""
        for part in parts:
            if self.learner is not None and part is not None and part.ranker == self.learner.ranker:
                self.learner.grow([part])

    def _gather(self) -> None:
        if self.learner is not None:
            part = self.learner.take_part()
            self._fresh = part if self._fresh is None else self._fresh.then(part)

    def learn(
        self, x: npt.NDArray[np.float32], clicked: npt.NDArray[np.bool_], ids: Ids, *, early: bool = False
    ) -> None:
        """Learn examples; see ``LeafLearner.learn``."""
        if self.learner is not None:
            self.learner.learn(x, clicked, ids, early=early)

    def give_part(self, sent: LeafPart | None = None) -> LeafPart | None:
        """Return what was learnt since the last call; None when there is nothing, or it is not finite.

        In the last case learning goes on without it, from the newest deltas and ``sent``.
        """
        self._gather()
        part, self._fresh = self._fresh, None
        if part is None or not part.steps:
            return None
        if part.sound():
            return part
        log.error(
            "leaf deltas are not finite any more: the last %d examples are not used",
            part.steps,
            extra={"action": "leaves_not_finite", "count": part.steps},
        )
        if self.learner is not None:
            self.learner.start_again()
        self._go_on(sent)
        self._fresh = None
        return None

    # -- of the learner that merges

    def merge(self, parts: Sequence[LeafPart]) -> None:
        """Take in what learners have learnt at the same time; parts of other rankers are left out."""
        found = [p for p in parts if self.learner is not None and p.ranker == self.learner.ranker]
        if self.learner is not None and found:
            self.learner.grow(found)
            self.newest = self.learner.deltas(), self.learner.seen
            self.changed = True

    def to_publish(self) -> tuple[LeafDeltas, dict[str, float]] | None:
        """Return deltas and their quality if there is anything new."""
        if self.learner is None or not self.changed:
            return None
        self.changed = False
        return self.learner.deltas(), self.learner.quality()

    def go_on_as(self, merged: RankerLeaves) -> None:
        """Continue from merged deltas, which contain everything that was given away."""
        self.newest = merged.newest
        if self.learner is not None and merged.learner is not None:
            self._gather()
            self.learner.go_on_as(merged.learner)
            self._grow(self._fresh)
