"""A small world for the serving tests: a catalogue, users and clicks, without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from reference_users import both_ways
from strategies import GAP_MS, T0, Act, columns

from headrace.models.state import neighbours as neighbours_module
from headrace.models.state.neighbours import Neighbours
from headrace.models.state.users import SEQ_STEP, UserState, new_table
from headrace.serving.answering import Answer
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.policy import Policy
from headrace.serving.ranking import Ranked
from headrace.serving.recommender import Recommender
from headrace.serving.rerank.rules import OFF, Rules
from headrace.streams.messages.ages import age_group
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context, Item, RecRequest, UserProfile
from headrace.streams.settings import HOUR_MS

CATEGORIES = ("news", "sport", "music", "film")


def item(n: int | str, **changes: Any) -> Item:
    """Return item ``n``, published five hours before ``T0``."""
    k = hash64(str(n)) if isinstance(n, str) else n
    fields: dict[str, Any] = {
        "item_id": f"i{n}",
        "published_ts": T0 - 5 * HOUR_MS,
        "title": f"Title number {n}",
        "category": CATEGORIES[k % len(CATEGORIES)],
        "creator_id": f"c{k % 7}",
        "tags": [f"t{k % 11}"],
        **changes,
    }
    return Item(**fields)


def by_mmr(epsilon: float, mmr_lambda: float) -> Rules:
    """Return rules with boosts, MMR and uniform exploration only."""
    return replace(OFF, boosts=True, diversity="mmr", strength=1 - mmr_lambda, epsilon=epsilon)


def request(user: str = "u", **changes: Any) -> RecRequest:
    """Return a request for the home surface."""
    fields: dict[str, Any] = {"request_id": "r1", "user_id": user, "surface": "home", **changes}
    return RecRequest(**fields)


class World:
    """The state of every stage, fed in one process."""

    def __init__(self, items: int = 0, policy: Policy | None = None, **item_fields: Any) -> None:
        self.users = UserState(new_table(), GAP_MS)
        self.neighbours = Neighbours()
        self.recommender = Recommender(policy or Policy(rules=by_mmr(0, 1)))
        self._offset = self._profiles = 0
        for n in range(items):
            self.publish(item(n, **item_fields))

    def publish(self, new: Item, now: int | None = None) -> int:
        """Add an item to the catalogue and the hot index."""
        key = self.recommender.catalog.put(new)
        vector = self.recommender.catalog.vector(key)
        if vector is not None:
            self.recommender.hot.put(key, vector, new.published_ts, T0 if now is None else now)
        return key

    def withdraw(self, item_id: str) -> None:
        """Take an item out."""
        self.recommender.hot.drop(self.recommender.catalog.drop(item_id))

    def click(
        self,
        user: str,
        item_id: str | int,
        ts: int = T0,
        country: str = "",
        kind: str = "click",
        age: int | None = None,
    ) -> None:
        """Let every stage see one event."""
        name = f"i{item_id}" if isinstance(item_id, int) else item_id
        act = Act(hash64(user), hash64(name), kind, ts, country=hash64(country))
        events = columns([act], [self._offset])
        events.category, events.creator = self.recommender.catalog.attributes(events.item)
        self._offset += 1
        applied = self.users.apply(events)
        record = np.zeros(1, ITEM_EVENT)
        record["item"], record["country"], record["ts"] = events.item, events.country, events.ts
        record["kind"], record["amount"] = KIND[kind], 1
        record["age_group"] = age_group(age) if country else 0
        items, countries = self.recommender.stats.apply(record, events.offset)
        self.recommender.trending.changed(items)
        self.recommender.trending.countries_changed(countries)
        pairs = both_ways(applied.pairs)
        self.neighbours.apply(pairs, events.offset[0] * SEQ_STEP + np.arange(len(pairs)))

    def session(self, user: str, items: Sequence[int], start: int = T0, country: str = "") -> None:
        """Let a user click items, a second apart."""
        for k, n in enumerate(items):
            self.click(user, n, start + 1000 * k, country)

    def profile(self, user: str, **fields: Any) -> None:
        """Set a user's profile."""
        self._profiles += 1
        self.users.profile(UserProfile(user, **fields), self._profiles, T0)

    def row(self, user: str) -> Any:
        """Return a user's row ``(1,)``, None when unknown."""
        at = self.users.table.row(hash64(user))
        return self.users.table.data[at : at + 1] if at >= 0 else None

    def anchors(self, asked: RecRequest, now: int = T0) -> Anchors:
        """Return a request's anchors with their neighbour rows."""
        items = self.recommender.anchors_for(asked, self.row(asked.user_id), now)
        found = self.neighbours.table.find(items)
        rows = np.full(len(items), neighbours_module.BLANK, neighbours_module.ROW)
        rows[found >= 0] = self.neighbours.table.data[found[found >= 0]]
        return Anchors(items, rows)

    def rank(self, asked: RecRequest, now: int = T0) -> Ranked:
        """Rank for a request."""
        self.recommender.tick(now)
        return self.recommender.rank(asked, self.row(asked.user_id), self.anchors(asked, now), now)

    def answer(self, asked: RecRequest, now: int = T0) -> Answer:
        """Answer a request."""
        self.recommender.tick(now)
        return self.recommender.answer(asked, self.row(asked.user_id), self.anchors(asked, now), now)

    def shown(self, asked: RecRequest, now: int = T0) -> list[str]:
        """Return the ids of a request's list."""
        return [i.item_id for i in self.answer(asked, now).reply.items]


def here(country: str) -> Context:
    """Return a request context."""
    return Context(country=country)


def busy(policy: Policy | None = None, items: int = 60) -> World:
    """Return a world in which twenty users clicked through all items lately."""
    world = World(items, policy)
    for n in range(80):
        world.session(
            f"u{n % 20}", [n % items, (n * 7) % items], T0 - 60_000 - n * 2000, "BR" if n % 2 else "US"
        )
    return world
