"""The users and the catalogue of a chaos run, and what the account service says. Pure, seeded."""

from __future__ import annotations

import itertools
import random

from headrace.streams.messages.schemas import Item, UserProfile
from headrace.streams.settings import HOUR_MS

COUNTRIES = ("", "BR", "DE", "IN", "JP", "MX", "NG", "US")
#: At most as many as a user's row has places for: then all affinities of a user can be compared.
CATEGORIES, CREATORS = 11, 12
#: Users who have a profile and no event.
QUIET = 400
#: Of the rarest items, how many are withdrawn before the catalogue is sent again.
WITHDRAWN_OF, WITHDRAWN = 1000, 25


class World:
    """Users and items; high ranks are picked often, one user far more often than all others."""

    def __init__(self, seed: int, users: int, items: int) -> None:
        self._rng = random.Random(f"world-{seed}")
        self.users = [f"user-{i:05d}" for i in range(users)]
        self.quiet = [f"quiet-{i:05d}" for i in range(QUIET)]
        self.item_ids = [f"item-{i:05d}" for i in range(items)]
        weights = [1 / (i + 30) for i in range(users)]
        weights[0] *= 8
        self._user_weights = list(itertools.accumulate(weights))
        # Flat enough that more items are clicked than a table keeps rows in memory.
        self._item_weights = list(itertools.accumulate(1 / (i + 60) for i in range(items)))
        self.home = [self._rng.choice(COUNTRIES) for _ in self.users]
        self._catalogue: list[Item] = []

    def user(self, rng: random.Random) -> int:
        """Pick a user."""
        return rng.choices(range(len(self.users)), cum_weights=self._user_weights)[0]

    def item(self, rng: random.Random) -> str:
        """Pick an item; a few are in no catalogue."""
        if rng.random() < 0.01:
            return f"unknown-{rng.randrange(50)}"
        return rng.choices(self.item_ids, cum_weights=self._item_weights)[0]

    def items(self, now: int) -> list[Item]:
        """Return the catalogue, made at the first call; what an item is never changes."""
        if not self._catalogue:
            self._catalogue = [self._item(i, item_id, now) for i, item_id in enumerate(self.item_ids)]
        return self._catalogue

    def _item(self, i: int, item_id: str, now: int) -> Item:
        return Item(
            item_id=item_id,
            published_ts=now - self._rng.randrange(40 * HOUR_MS),
            title=f"story number {i}",
            category=f"category-{i % CATEGORIES}",
            tags=[f"tag-{i % 57}", f"tag-{i % 31}"],
            creator_id=f"creator-{i % CREATORS}",
            language="en",
        )

    def withdrawn(self, rng: random.Random) -> list[str]:
        """Return some of the rarest items: a user of a withdrawn item cannot be compared as a whole."""
        return rng.sample(self.item_ids[-WITHDRAWN_OF:], min(WITHDRAWN, len(self.item_ids)))

    def profile(self, rng: random.Random) -> UserProfile:
        """Return the profile of some user as it is from now on. Every field may change, or be empty."""
        dice = rng.random()
        if dice < 0.15:
            user_id, country = rng.choice(self.quiet), rng.choice(COUNTRIES)
        else:
            user = self.user(rng) if dice < 0.5 else rng.randrange(len(self.users))
            user_id, country = self.users[user], self.home[user]
        if rng.random() < 0.2:  # moved, or not known any more
            country = rng.choice(COUNTRIES)
        follows = rng.choice((0, 0, 1, 3, CREATORS, 300))
        return UserProfile(
            user_id,
            country=country,
            age=None if rng.random() < 0.3 else rng.randrange(0, 151),
            language=rng.choice(("", "de", "en", "pt")),
            preferred_categories=[
                f"category-{c}" for c in rng.sample(range(CATEGORIES), rng.choice((0, 0, 1, 4)))
            ],
            followed_creators=[f"creator-{c}" for c in rng.sample(range(400), follows)],
        )

    def leaver(self, rng: random.Random) -> str:
        """Pick a user who wants to be forgotten: one who is seen often, or rarely, or never."""
        dice = rng.random()
        if dice < 0.1:
            return rng.choice(self.quiet)
        # The first users are so busy that the comparison of their rows is worth more than one more leaver.
        return self.users[max(20, self.user(rng)) if dice < 0.6 else rng.randrange(20, len(self.users))]
