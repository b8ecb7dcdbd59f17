"""An installation in simulated time: state, learners and trainer, at the intervals of the settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.models.learning.ranker import RankerParams
from headrace.models.state.shown import ShownState
from headrace.serving.answering import Answer
from headrace.serving.prequential.world import World
from headrace.streams.errors import ConfigError
from headrace.streams.messages.files import Click
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Event, Impression, Item, RecRequest, UserProfile
from headrace.streams.settings import Settings

#: The trainer's next pause begins so long (ms for each example of the log) after a training began: about what
#: a training takes beside the other processes of the demo, on two cores. (Here its ranker is used at once.)
TRAINING_MS = 0.3
#: What can be switched off: the online model, moving leaves, trainings after the first one, the towers.
PARTS = ("online", "leaves", "retraining", "towers")
#: All of them at once.
LEARNING = "learning"


def parts_off(names: Collection[str]) -> frozenset[str]:
    """Return the parts that are off; ``learning`` stands for all of them.

    Raises
    ------
    ConfigError
        There is no such part.
    """
    if unknown := sorted(set(names) - {*PARTS, LEARNING}):
        raise ConfigError(f"--off: there is no {unknown[0]!r}; there are {', '.join((LEARNING, *PARTS))}")
    return frozenset(PARTS if LEARNING in names else names)


class Installation(World):
    """What a running installation holds and does; everything happens when ``advance`` says so.

    Parameters
    ----------
    settings
        How lists are made, and how often models are trained and published.
    folder
        Folder of the Parquet log.
    off
        The ``PARTS`` that are off.
    """

    def __init__(self, settings: Settings, folder: Path, off: Collection[str] = ()) -> None:
        changes: dict[str, Any] = {"leaf_steps": settings.leaf_steps and "leaves" not in off}
        if "towers" in off:
            changes["towers_every_s"] = 0.0
        super().__init__(settings.model_copy(update=changes), folder, RankerParams())
        self.shown = ShownState()
        self._off = frozenset(off)
        self._publish_ms, self._train_ms = (
            int(1000 * s) for s in (settings.publish_every_s, settings.train_every_s)
        )
        self._next_publish = self._next_train = 0

    def start(self, now: int) -> None:
        """Begin the intervals at ``now`` (ms)."""
        self._next_publish, self._next_train = now + self._publish_ms, now + self._train_ms

    def advance(self, now: int) -> None:
        """Let the time come to ``now`` (ms): outcomes close; what is due is published and trained."""
        self.learning.advance(now)
        if now >= self._next_publish:
            self._next_publish += self._publish_ms
            if "online" not in self._off:
                self.recommender.online = self.learning.online
            if self.recommender.leaves is not self.learning.leaves:
                self.recommender.leaves = self.learning.leaves
        if now >= self._next_train:
            if not (self.learning.trainings and "retraining" in self._off):
                self.train()
            self._next_train += self._train_ms + int(TRAINING_MS * self.learning.logged)
        self.towers.advance(now)

    def put(self, items: Sequence[Item], now: int) -> None:
        """Put items into the catalogue and the hot index."""
        if items:
            keys = self.recommender.catalog.put_many(list(items))
            published = np.array([item.published_ts for item in items], np.int64)
            vectors = self.recommender.catalog.vectors.of(keys)
            self.recommender.hot.put_many(keys, vectors, published, now)

    def profiles(self, profiles: Sequence[UserProfile], now: int) -> None:
        """Take what the account service knows of users."""
        for profile in profiles:
            self.users.profile(profile, self.next_offset(), now)

    def take(self, events: Sequence[Event]) -> None:
        """Apply events, in order of time, to the rows and the learners."""
        if not events:
            return
        clicks = [_click(e) for e in events if e.type == "click"]
        self.towers.learn_many(clicks)
        for event in events:
            self.learning.happened(event)
        self.happen(list(events), [self.next_offset() for _ in events])

    def answer(self, request: RecRequest, now: int) -> Answer:
        """Return a list for a request at ``now`` (ms)."""
        user, anchors = self.state_for(request, now)
        row = self.shown.table.row(hash64(request.user_id))
        shown = self.shown.table.data[row : row + 1].copy() if row >= 0 else None  # as it is now
        return self.recommender.answer(request, user, anchors, now, shown)

    def note(self, shown: Impression) -> None:
        """Take a list that was shown to the rows and the learners."""
        offset = self.next_offset()
        self.count_shown(shown, offset)
        self.shown.apply(
            hash_many([shown.user_id]),
            np.array([len(shown.item_ids)], np.int64),
            hash_many(shown.item_ids),
            np.array([shown.ts], np.int64),
            np.array([offset], np.int64),
        )
        self.learning.shown(shown)


def _click(event: Event) -> Click:
    where = event.context
    country, device = (where.country, where.device) if where else ("", "")
    return Click(event.user_id, "", event.item_id, event.ts, device, country)
