"""A simulated catalogue and audience with hidden tastes: pure, seeded, in columns.

Whether a user clicks what a slot shows is one formula for every list, whoever made it::

    p(click | user, item, position) = examination(position) * sigmoid(taste + quality + freshness - HURDLE)

taste(user, item) = category + liked tags + liked creator + what the user's country cares for. The recommender
sees none of these numbers, only the events they cause.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.demo import vocabulary
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item, UserProfile
from headrace.streams.settings import HOUR_MS

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

CATEGORIES = tuple(c for theme in vocabulary.THEMES.values() for c in theme)
_THEME_OF = np.array([t for t, theme in enumerate(vocabulary.THEMES.values()) for _ in theme])
_WORDS = tuple(tuple(words.split()) for theme in vocabulary.THEMES.values() for words in theme.values())
TAGS = tuple(dict.fromkeys([*vocabulary.COMMON_TAGS, *(w for words in _WORDS for w in words)]))
_TAG_INDEX = {tag: i for i, tag in enumerate(TAGS)}

#: Log-odds a slot must overcome; with it a random list is clicked in about 4 % of its slots.
HURDLE = 3.4
ITEM_TAGS = 3
USER_TAGS = 8
USER_CREATORS = 4
LIKED_TAG, LIKED_CREATOR, SAME_THEME = 0.5, 1.0, 0.4
FRESHNESS, FRESH_FOR_MS = 0.7, 8 * HOUR_MS


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """Size and habits of the simulated world; the same spec and start time give the same world."""

    items: int = 3000
    users: int = 2000
    creators: int = 300
    seed: int = 7
    control_share: float = 0.15  # of the users, shown the popularity list
    known_share: float = 0.7  # of the users, with a profile and a past
    spread_ms: int = 48 * HOUR_MS  # publication times of the starting catalogue
    new_items_per_s: float = 0.5
    visits_per_s: float = 40.0
    visits_a_session: float = 6.0  # mean, geometric
    think_ms: int = 2500  # mean pause between two visits of a session
    n: int = 20  # slots of a list
    # Generous: broker, workers and audience share this machine, and a list made in haste teaches nothing.
    deadline_ms: int = 1000


def examination(position: npt.NDArray[np.integer]) -> F64:
    """Return the chance that a slot is looked at, float64, the shape of ``position`` (0 = top)."""
    out: F64 = 0.3 + 0.7 * np.exp(-np.asarray(position, np.float64) / 8)
    return out


def sigmoid(x: npt.NDArray[np.floating]) -> F64:
    """Return the logistic function, float64."""
    out: F64 = 1 / (1 + np.exp(-np.asarray(x, np.float64)))
    return out


class Audience:
    """Users and what they like; arrays have one row a user."""

    def __init__(self, spec: WorldSpec, rng: np.random.Generator) -> None:
        n, k = spec.users, len(CATEGORIES)
        self.ids = [f"user-{i:05d}" for i in range(n)]
        countries = len(vocabulary.COUNTRIES)
        self.country = rng.choice(countries, n, p=_falling(countries, 1.5, rng))
        self.device = rng.choice(3, n, p=(0.65, 0.3, 0.05))
        self.age = rng.integers(14, 76, n)
        self.activity = _normalised(rng.lognormal(0, 0.8, n))
        self.control = np.array([hash64(f"control:{i}") % 1000 < spec.control_share * 1000 for i in self.ids])
        self.known = rng.random(n) < spec.known_share
        # Some categories have many friends, which is what makes popularity a baseline worth beating.
        favour = _falling(k, 4.0, rng)
        self.liked = np.array([rng.choice(k, 4, replace=False, p=favour) for _ in range(n)])
        count = rng.integers(2, 5, n)
        self.category = rng.normal(-0.2, 0.3, (n, k)).astype(np.float32)
        for j in range(4):
            who = np.flatnonzero(count > j)
            theme = _THEME_OF[self.liked[who, j]]
            self.category[who] += SAME_THEME * (_THEME_OF[None, :] == theme[:, None])
            self.category[who, self.liked[who, j]] += rng.uniform(1.2, 2.2, len(who))
        self.liked_count = count
        self.tags = rng.integers(0, len(TAGS), (n, USER_TAGS))
        for j in range(USER_TAGS // 2):  # half of them from the favourite categories
            self.tags[:, j] = [_TAG_INDEX[_WORDS[c][int(rng.integers(6))]] for c in self.liked[:, j % 2]]
        self.creators = rng.integers(0, spec.creators, (n, USER_CREATORS))
        self.abroad = rng.normal(0, 0.35, (len(vocabulary.COUNTRIES), k)).astype(np.float32)

    def profile(self, user: int, rng: np.random.Generator) -> UserProfile:
        """Return what the account service knows: always the country, sometimes more."""
        told = self.liked[user, : int(self.liked_count[user])] if rng.random() < 0.4 else ()
        return UserProfile(
            user_id=self.ids[user],
            country=vocabulary.COUNTRIES[int(self.country[user])],
            age=int(self.age[user]),
            language="en",
            preferred_categories=[CATEGORIES[int(c)] for c in told],
            followed_creators=[creator_id(int(self.creators[user, 0]))] if rng.random() < 0.2 else [],
        )


class SimulatedCatalog:
    """The items, growing; arrays have one row an item, those past ``size`` are room to grow."""

    def __init__(self, spec: WorldSpec, rng: np.random.Generator) -> None:
        self._spec, self._rng = spec, rng
        self.size = 0
        self.ids: list[str] = []
        self._index: dict[str, int] = {}
        self.category = np.zeros(0, np.int64)
        self.creator = np.zeros(0, np.int64)
        self.tags = np.zeros((0, ITEM_TAGS), np.int64)
        self.quality = np.zeros(0, np.float32)
        self.published = np.zeros(0, np.int64)
        # A creator writes about one theme.
        self._home = rng.integers(0, len(vocabulary.THEMES), spec.creators)

    def index(self, item_ids: list[str]) -> I64:
        """Return the rows of ``item_ids``; -1 for an id that is not ours."""
        return np.array([self._index.get(i, -1) for i in item_ids], np.int64)

    def publish(self, published: I64) -> list[Item]:
        """Add one new item for each time (ms) of ``published``; return them as messages."""
        rng, k = self._rng, len(published)
        first = self.size
        self._grow(first + k)
        new = slice(first, first + k)
        self.category[new] = rng.integers(0, len(CATEGORIES), k)
        self.quality[new] = rng.normal(0, 0.7, k)
        self.published[new] = published
        self.size += k
        return [self._describe(i) for i in range(first, first + k)]

    def _grow(self, size: int) -> None:
        room = len(self.category)
        if size > room:
            more = max(size - room, room // 2, 64)
            for name in ("category", "creator", "tags", "quality", "published"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros((more, *old.shape[1:]), old.dtype)]))

    def _describe(self, i: int) -> Item:
        rng, category = self._rng, int(self.category[i])
        own = np.flatnonzero(self._home == _THEME_OF[category])
        at_home = len(own) > 0 and rng.random() < 0.9
        self.creator[i] = rng.choice(own) if at_home else rng.integers(len(self._home))
        a, b = rng.choice(6, 2, replace=False)
        words = _WORDS[category]
        common = vocabulary.COMMON_TAGS[int(rng.integers(len(vocabulary.COMMON_TAGS)))]
        tags = [words[a], words[b], common]
        self.tags[i] = [_TAG_INDEX[t] for t in tags]
        title = vocabulary.TITLES[int(rng.integers(len(vocabulary.TITLES)))]
        text = title.format(a=words[a].replace("-", " "), b=words[b].replace("-", " "))
        item_id = f"item-{i:06d}"
        self.ids.append(item_id)
        self._index[item_id] = i
        return Item(
            item_id=item_id,
            published_ts=int(self.published[i]),
            title=text[0].upper() + text[1:],
            category=CATEGORIES[category],
            tags=tags,
            creator_id=creator_id(int(self.creator[i])),
            language="en",
        )


def creator_id(creator: int) -> str:
    """Return the public id of a creator."""
    return f"creator-{creator:03d}"


def taste(audience: Audience, shelf: SimulatedCatalog, user: int, items: I64) -> F64:
    """Return how much ``user`` cares for ``items`` ``(n,)``, in log-odds, float64 ``(n,)``."""
    category = shelf.category[items]
    tags = (shelf.tags[items][:, :, None] == audience.tags[user][None, None, :]).any(2).sum(1)
    creator = (shelf.creator[items][:, None] == audience.creators[user][None, :]).any(1)
    out: F64 = (
        audience.category[user, category].astype(np.float64)
        + audience.abroad[int(audience.country[user]), category]
        + LIKED_TAG * tags
        + LIKED_CREATOR * creator
    )
    return out


def appeal(audience: Audience, shelf: SimulatedCatalog, user: int, items: I64, now: int) -> F64:
    """Return the chance of a click on each item once it is looked at, float64 ``(n,)``."""
    age = np.maximum(now - shelf.published[items], 0)
    fresh = FRESHNESS * np.exp(-age / FRESH_FOR_MS)
    return sigmoid(taste(audience, shelf, user, items) + shelf.quality[items] + fresh - HURDLE)


def _normalised(weights: npt.NDArray[np.floating]) -> F64:
    out: F64 = np.asarray(weights, np.float64) / float(weights.sum())
    return out


def _falling(n: int, offset: float, rng: np.random.Generator) -> F64:
    """Return probabilities that fall like 1 / (rank + offset), in random order."""
    return _normalised(rng.permutation(1 / (np.arange(n) + offset)))
