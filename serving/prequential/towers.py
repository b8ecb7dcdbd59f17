"""Learns and publishes the two towers in event time, with the code of the agent."""

from __future__ import annotations

import numpy as np

from headrace.models.embeddings.artefact import towers_of
from headrace.models.embeddings.directions import U64
from headrace.models.embeddings.stream import Clicks, TowerStream
from headrace.serving.recommender import Recommender
from headrace.streams.messages.files import Click
from headrace.streams.messages.ids import hash_many
from headrace.streams.settings import DAY_MS, Settings


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
        if not self._every_ms:
            return
        user, item, country, device = (
            hash_many([text]) for text in (click.user, click.item, click.region, click.device)
        )
        ts = np.array([click.ts], np.int64)
        before = self._stream.remember(user, item, ts)
        self._stream.learn(Clicks(user, item, ts, country, device, _NOBODY, _NOBODY), before)

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


_NOBODY: U64 = np.zeros((1, 0), np.uint64)
