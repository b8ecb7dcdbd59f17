"""Learns and publishes the two towers in event time, with the code of the agent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.models.embeddings.artefact import towers_of
from headrace.models.embeddings.stream import Clicks, TowerStream
from headrace.serving.recommender import Recommender
from headrace.streams.messages.files import Click
from headrace.streams.messages.ids import hash_many
from headrace.streams.settings import DAY_MS, Settings

#: Shortest time between two publications where the clicks of days are few, s of event time.
SELDOM_S = 3600.0


def with_seldom_towers(settings: Settings) -> Settings:
    """Return the settings with fewer publications of the towers, for recordings of many days.

    By the minute, as an installation publishes them, they would take most of the time.
    """
    every = settings.towers_every_s
    return settings.model_copy(update={"towers_every_s": every and max(every, SELDOM_S)})


class EventTimeTowers:
    """Takes recorded clicks; every so many seconds of their time, the recommender gets the towers.

    Parameters
    ----------
    settings
        How often they are published, and how large they are.
    recommender
        Its catalogue has the content of the items.
    """

    def __init__(self, settings: Settings, recommender: Recommender) -> None:
        self._every_ms = int(settings.towers_every_s * 1000)
        self._recommender = recommender
        content = recommender.catalog.vectors.content
        keep_ms = int(settings.towers_keep_days * DAY_MS)
        self._stream = TowerStream(content, settings.towers_rows, keep_ms)
        self._next = 0
        self._published = 0

    def learn(self, click: Click) -> None:
        """Learn a click: when a mini-batch is full, or before the next publication."""
        self.learn_many([click])

    def learn_many(self, clicks: Sequence[Click]) -> None:
        """Learn clicks, in order of time for each user."""
        if not self._every_ms or not clicks:
            return
        user, item, country, device = (
            hash_many([getattr(click, name) for click in clicks])
            for name in ("user", "item", "region", "device")
        )
        ts = np.array([click.ts for click in clicks], np.int64)
        before = self._stream.remember(user, item, ts)
        nobody = np.zeros((len(clicks), 0), np.uint64)
        self._stream.learn(Clicks(user, item, ts, country, device, nobody, nobody), before)

    def advance(self, now: int) -> None:
        """Publish what was learnt, if it is time; the recommender uses it at once."""
        if not self._every_ms or now < self._next:
            return
        self._next = now + self._every_ms
        learner = self._stream.learner
        if learner.learnt + learner.waiting == self._published:
            return
        body = self._stream.pack()
        self._published = learner.learnt
        self._recommender.swap.begin(lambda: towers_of(body), now)
        self._recommender.swap.settle(now)
