"""Learns the towers from a stream of clicks: the code of the agent, and of the evaluation. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import artefact
from headrace.models.embeddings.directions import U64
from headrace.models.embeddings.features import I64, ItemFeatures, Users
from headrace.models.embeddings.learner import Learner, Plan
from headrace.models.embeddings.recent import RecentClicks
from headrace.models.embeddings.towers import MAX_ROWS, Towers
from headrace.streams.errors import ArtefactError


@dataclass(slots=True)
class Clicks:
    """``n`` clicks in their order: keys (``hash64``), uint64 ``(n,)``, and times, ms, int64 ``(n,)``.

    ``preferred`` and ``followed``, uint64 ``(n, any number)``: of the users, as in ``Users``.
    """

    user: U64
    item: U64
    ts: I64
    country: U64
    device: U64
    preferred: U64
    followed: U64

    def __len__(self) -> int:
        return len(self.user)

    def where(self, keep: npt.NDArray[np.bool_]) -> Clicks:
        """Return some of them."""
        return Clicks(*(getattr(self, f.name)[keep] for f in fields(self)))


class TowerStream:
    """A learner, and what it has to remember of the users.

    Parameters
    ----------
    features
        Content of items.
    max_rows
        Most learnt embeddings.
    keep_ms
        What was not seen for so long is forgotten, ms of the clicks' times.
    plan
        How the towers learn.

    Attributes
    ----------
    learner
        The learner.
    recent
        What users clicked last.
    newest
        Time of the newest click, ms.
    """

    def __init__(
        self, features: ItemFeatures, max_rows: int = MAX_ROWS, keep_ms: int = 0, plan: Plan | None = None
    ) -> None:
        self._features, self._max_rows, self._keep_ms, self._plan = features, max_rows, keep_ms, plan
        self.learner = Learner(Towers(max_rows), features, plan)
        self.recent = RecentClicks()
        self.newest = 0

    def remember(self, users: U64, items: U64, ts: I64) -> U64:
        """Note clicks; return what each user had clicked before, newest first, uint64 ``(n, PLACES)``."""
        return self.recent.add(users, items, ts)

    def learn(self, clicks: Clicks, recent: U64) -> None:
        """Take clicks for learning; mini-batches are learnt when they are full.

        A click on what the user clicked lately says nothing new (lists leave those items out), and may be
        the same click once more: it is not learnt.

        Parameters
        ----------
        recent
            What ``remember`` returned for them.
        """
        again = (recent == clicks.item[:, None]).any(1)
        clicks, recent = clicks.where(~again), recent[~again]
        if not len(clicks):
            return
        self.newest = max(self.newest, int(clicks.ts.max()))
        users = Users(recent, clicks.preferred, clicks.followed, clicks.country, clicks.device)
        self.learner.learn(users, clicks.item, clicks.ts)

    def pack(self) -> bytes:
        """Learn the clicks that wait, forget what was not seen for long; return all that was learnt.

        Raises
        ------
        ArtefactError
            Numbers are not finite, or the artefact is too large.
        """
        self.learner.flush()
        if self._keep_ms:
            self.learner.expire(self.newest - self._keep_ms)
        body = artefact.save(self.learner)
        if not artefact.finite(self.learner):
            raise ArtefactError("the towers have numbers that are not finite")
        return body

    def restore(self, body: bytes) -> None:
        """Go on from a published artefact; what users clicked last stays.

        Raises
        ------
        ArtefactError
            It does not fit.
        """
        self.learner = artefact.restore(body, self._features, self._plan, self._max_rows)
