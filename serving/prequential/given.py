"""Lists that were shown by somebody else: order their items, score the order, then learn what was clicked.

    for each list, in order of time:  features and scores of its items  ->  figures  ->  count, join, learn

The items are given, so sources, filters and re-ranking have no part in it. All else is what ships: state,
features, scorers, the join of outcomes, the online model, the trainer. Lists of the same moment are all
scored before one of them is learnt.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from headrace.serving.answering import impression
from headrace.serving.prequential.baselines import Counted
from headrace.serving.prequential.given_figures import F64, Comparison
from headrace.serving.prequential.loop import EvalSettings
from headrace.serving.prequential.towers import with_seldom_towers
from headrace.serving.prequential.world import World
from headrace.serving.ranking import Ranked
from headrace.serving.rerank.slate import Slate
from headrace.serving.scorers.blend import blend
from headrace.streams.errors import ConfigError
from headrace.streams.messages.files import Click
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import (
    Context,
    Event,
    Impression,
    Item,
    ModelInfo,
    RecItem,
    RecReply,
    RecRequest,
)
from headrace.streams.settings import Settings

OURS = "headrace"
#: What ours is compared with to say that it is better.
BASELINES = ("clicks so far", "click rate so far", "given order")


@dataclass(frozen=True, slots=True)
class GivenList:
    """A list that a user was shown: the items in their order, each once, and those clicked.

    ``reading`` is the item on whose page it was shown; empty for a front page.
    """

    number: str
    user: str
    ts: int  # ms
    items: tuple[str, ...]
    clicked: frozenset[str]
    device: str = ""
    reading: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """Lists in order of time, and what was known before.

    Attributes
    ----------
    past
        Clicks of each user before their first list: item and time (ms), the oldest first.
    content
        Items of which more than the id is known; published 0: when they are first seen.
    """

    lists: Sequence[GivenList]
    past: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    content: Mapping[str, Item] = field(default_factory=dict)


class GivenLists(World):
    """Orders given lists, in event time.

    Attributes
    ----------
    comparison
        The figures of ours and of the baselines.
    """

    def __init__(self, how: EvalSettings, settings: Settings, folder: Path, recording: Recording) -> None:
        super().__init__(with_seldom_towers(settings), folder, how.params)
        self.how = how
        self.comparison = Comparison()
        self._past, self._content = dict(recording.past), recording.content
        self._counted = Counted()
        self._rng = np.random.default_rng(how.params.seed)
        self._done, self._next_train = 0, how.first_train

    def step(self, lists: Sequence[GivenList]) -> None:
        """Score lists of one moment, then learn them."""
        self.advance(lists[0].ts)
        for one in lists:
            self._remember(one)
        shown = [self._ask(one) for one in lists]
        for one, logged in zip(lists, shown, strict=True):
            self._learn(one, logged)
        self._done += len(lists)
        if self._done >= self._next_train:
            self._next_train = self._done + min(self._done, self.how.retrain_every)
            self.train()

    def _remember(self, one: GivenList) -> None:
        """Apply the past of a user who comes for the first time; put the items into the catalogue."""
        past = self._past.pop(one.user, ())
        self._put([*past, *((item, one.ts) for item in (*one.items, one.reading) if item)])
        if past:
            offsets = [self.next_offset() for _ in past]
            clicks = [Click(one.user, "", item, ts, one.device, "") for item, ts in past]
            self.towers.learn_many(clicks)
            self.happen([_click(c, k) for c, k in zip(clicks, offsets, strict=True)], offsets)
            self._counted.elsewhere(item for item, _ in past)

    def _put(self, seen: Sequence[tuple[str, int]]) -> None:
        """Put items into the catalogue that it does not have; each was seen at a time, ms."""
        catalog = self.recommender.catalog
        new = {}
        for (item, ts), row in zip(seen, catalog.find(hash_many([item for item, _ in seen])), strict=True):
            if row < 0 and item not in new:
                new[item] = self._item(item, ts)
        if new:
            catalog.put_many(list(new.values()))

    def _item(self, item: str, ts: int) -> Item:
        known = self._content.get(item)
        if known is None:
            return Item(item_id=item, published_ts=ts)
        return Item(item, known.published_ts or ts, known.title, known.category, known.tags)

    def _ask(self, one: GivenList) -> Impression:
        """Score a list with every method; return it as shown."""
        request = RecRequest(
            request_id=str(self.next_offset()),
            user_id=one.user,
            surface="related" if one.reading else "home",
            item_id=one.reading,
            n=len(one.items),
            context=Context(device=one.device, ts=one.ts),
        )
        user, anchors = self.state_for(request, one.ts)
        keys = hash_many(one.items)
        order = np.argsort(keys)
        query = self.recommender.query(request, user, anchors, one.ts, len(keys))
        pool = self.recommender.pipeline.given(query, keys[order])
        features, ids, (scores, scorer, missing, _) = self.recommender.scored(query, pool)
        place = np.argsort(order)  # of each item of the list among the candidates
        n = len(place)
        slate = Slate(place, np.ones(n), np.zeros(n, bool), [""] * n)
        ranked = Ranked(query, pool, features, scores, slate, missing, scorer=scorer, ids=ids)
        self._score(one, {OURS: scores[place], "blend, no model": blend(features)[place]})
        return impression(self.recommender.pipeline, ranked, _reply(request.request_id, one.items))

    def _score(self, one: GivenList, ours: dict[str, F64]) -> None:
        n = len(one.items)
        chance = self._rng.random(n)
        others = {**self._counted.scores(one.items), "given order": -np.arange(n, dtype=np.float64)}
        clicked = np.array([item in one.clicked for item in one.items])
        self.comparison.add({**ours, **others, "by chance": chance}, clicked, chance)

    def _learn(self, one: GivenList, shown: Impression) -> None:
        offset = self.next_offset()
        self.count_shown(shown, offset)
        self.learning.shown(shown)
        self._counted.shown(one.items, one.clicked)
        for position, item in enumerate(one.items):
            if item in one.clicked:
                offset = self.next_offset()
                click = Click(one.user, "", item, one.ts, one.device, "")
                event = _click(click, offset)
                event.request_id, event.position = shown.request_id, position
                self.towers.learn(click)
                self.learning.happened(event)
                self.happen([event], [offset])


def _click(click: Click, offset: int) -> Event:
    event = click.event(offset)
    event.event_id = f"eval-{offset}"
    return event


def _reply(request_id: str, items: Iterable[str]) -> RecReply:
    slots = [RecItem(item, 0.0, {}, [], explored=False, propensity=1.0) for item in items]
    return RecReply(request_id, slots, ModelInfo())


def evaluate_lists(
    recording: Recording,
    settings: Settings,
    how: EvalSettings | None = None,
    progress: Callable[[int, Comparison], None] | None = None,
) -> dict[str, Any]:
    """Run over a recording; return counts, the figures of each method with intervals, and the differences.

    Parameters
    ----------
    progress
        Called about every 100 lists with their number and the figures so far.

    Raises
    ------
    ConfigError
        No list has items that were clicked and others that were not.
    """
    started, done = time.perf_counter(), 0
    with tempfile.TemporaryDirectory(prefix="headrace-eval-") as folder:
        loop = GivenLists(how or EvalSettings(), settings, Path(folder), recording)
        for _, moment in groupby(recording.lists, key=lambda one: one.ts):
            lists = list(moment)
            loop.step(lists)
            done += len(lists)
            if progress is not None and done % 100 < len(lists):
                progress(done, loop.comparison)
    found = loop.comparison
    if not len(found):
        raise ConfigError("no list has items that were clicked and others that were not")
    return {
        "lists": done,
        "items_shown": sum(len(one.items) for one in recording.lists),
        "scored": len(found),
        "trainings": loop.learning.trainings,
        "methods": {name: _plain(found.intervals(name)) for name in found.found},
        "second_half": {name: _plain(found.intervals(name, start=len(found) // 2)) for name in found.found},
        "ahead_of": {name: _plain(found.intervals(OURS, name)) for name in BASELINES},
        "seconds": round(time.perf_counter() - started, 1),
    }


def _plain(intervals: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {k: {"mean": i.mean, "low": i.low, "high": i.high} for k, i in intervals.items()}


def verdict(figures: Mapping[str, Any]) -> str:
    """Return in one line what ours is above, and what not, by AUC and NDCG@10.

    It is sure when the 95 % interval of the difference leaves out 0.
    """
    above: list[str] = []
    not_above: list[str] = []
    for name, ahead in figures["ahead_of"].items():
        for figure in ("auc", "ndcg_at_10"):
            d = ahead[figure]
            sure = "surely" if d["low"] > 0 or d["high"] < 0 else "not surely"
            (above if d["mean"] > 0 else not_above).append(f"{name} by {figure} ({sure})")
    parts = (("NOT above", not_above), ("above", above))
    return "; ".join(f"{word} {', '.join(found)}" for word, found in parts if found)
