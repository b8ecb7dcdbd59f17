"""The simulated users and their hidden tastes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.demo.simulation.vocabulary import CATEGORIES, COUNTRIES, TAG_INDEX, TAGS, THEME_OF, WORDS
from headrace.demo.simulation.world import WorldSpec, creator_id
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import UserProfile

F64 = npt.NDArray[np.float64]

USER_TAGS = 8
USER_CREATORS = 4
#: A liked category adds these log-odds to the other categories of its theme.
SAME_THEME = 0.4


class Audience:
    """Users and what they like; arrays have one row for every user."""

    def __init__(self, spec: WorldSpec, rng: np.random.Generator) -> None:
        n, k = spec.users, len(CATEGORIES)
        self.ids = [f"user-{i:05d}" for i in range(n)]
        countries = len(COUNTRIES)
        self.country = rng.choice(countries, n, p=_falling(countries, 1.5, rng))
        self.device = rng.choice(3, n, p=(0.65, 0.3, 0.05))
        self.age = rng.integers(14, 76, n)
        self.activity = _normalised(rng.lognormal(0, 0.8, n))
        self.control = np.array([hash64(f"control:{i}") % 1000 < spec.control_share * 1000 for i in self.ids])
        self.known = rng.random(n) < spec.known_share
        # Many users like the same categories: otherwise the popular list would be too easy to beat.
        favour = _falling(k, 4.0, rng)
        self.liked = np.array([rng.choice(k, 4, replace=False, p=favour) for _ in range(n)])
        count = rng.integers(2, 5, n)
        self.category = rng.normal(-0.2, 0.3, (n, k)).astype(np.float32)
        self._strength = np.zeros((n, 4), np.float32)
        for j in range(4):
            who = np.flatnonzero(count > j)
            theme = THEME_OF[self.liked[who, j]]
            self.category[who] += SAME_THEME * (THEME_OF[None, :] == theme[:, None])
            self._strength[who, j] = rng.uniform(1.2, 2.2, len(who))
            self.category[who, self.liked[who, j]] += self._strength[who, j]
        self.liked_count = count
        self.tags = rng.integers(0, len(TAGS), (n, USER_TAGS))
        for j in range(USER_TAGS // 2):  # half of them from the favourite categories
            self.tags[:, j] = [TAG_INDEX[WORDS[c][int(rng.integers(6))]] for c in self.liked[:, j % 2]]
        self.creators = rng.integers(0, spec.creators, (n, USER_CREATORS))
        self.abroad = rng.normal(0, 0.35, (len(COUNTRIES), k)).astype(np.float32)
        self._moves = np.random.default_rng([spec.seed, 1])
        self._per_ms, self._moved = spec.drift_per_min * n / 60_000, 0
        self._shift_ms = int(1000 * spec.shift_at_s)
        self.bots = np.random.default_rng([spec.seed, 2]).random(n) < spec.bot_share
        self.known &= ~self.bots
        self._seed = spec.seed

    def drift(self, elapsed_ms: int) -> None:
        """Let tastes move as often as they do in ``elapsed_ms`` since the start: to other categories."""
        if 0 < self._shift_ms <= elapsed_ms:
            self._shift_ms = 0
            self._shift()
        due = int(elapsed_ms * self._per_ms) - self._moved
        if due <= 0:
            return
        self._moved += due
        rng, k = self._moves, len(CATEGORIES)
        users, news = rng.integers(0, len(self.ids), due).tolist(), rng.integers(0, k, due).tolist()
        for user, new in zip(users, news, strict=True):
            if new not in self.liked[user]:
                self._move(user, int(rng.integers(self.liked_count[user])), new)

    def _shift(self) -> None:
        """Let every user like other categories: every category turns into another one."""
        k = len(CATEGORIES)
        turns = (np.arange(k) + np.random.default_rng([self._seed, 4]).integers(1, k)) % k
        for user in range(len(self.ids)):
            for place, old in enumerate(self.liked[user, : int(self.liked_count[user])].tolist()):
                new = int(turns[old])
                if new not in self.liked[user]:
                    self._move(user, place, new)

    def _move(self, user: int, place: int, new: int) -> None:
        """Let a user like category ``new`` in place of the one at ``place``, as strongly."""
        old, strength = self.liked[user, place], self._strength[user, place]
        for category, sign in ((old, -1), (new, 1)):
            self.category[user] += np.float32(sign * SAME_THEME) * (THEME_OF[category] == THEME_OF)
            self.category[user, category] += sign * strength
        self.liked[user, place] = new

    def profile(self, user: int, rng: np.random.Generator) -> UserProfile:
        """Return the profile of a user at the account service: always the country, sometimes more."""
        told = self.liked[user, : int(self.liked_count[user])] if rng.random() < 0.4 else ()
        return UserProfile(
            user_id=self.ids[user],
            country=COUNTRIES[int(self.country[user])],
            age=int(self.age[user]),
            language="en",
            preferred_categories=[CATEGORIES[int(c)] for c in told],
            followed_creators=[creator_id(int(self.creators[user, 0]))] if rng.random() < 0.2 else [],
        )


def _normalised(weights: npt.NDArray[np.floating]) -> F64:
    out: F64 = np.asarray(weights, np.float64) / float(weights.sum())
    return out


def _falling(n: int, offset: float, rng: np.random.Generator) -> F64:
    """Return probabilities that fall like 1 / (rank + offset), in random order."""
    return _normalised(rng.permutation(1 / (np.arange(n) + offset)))
