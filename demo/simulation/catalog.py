"""The simulated items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.demo.simulation.vocabulary import (
    CATEGORIES,
    COMMON_TAGS,
    TAG_INDEX,
    THEME_OF,
    THEMES,
    TITLES,
    WORDS,
)
from headrace.demo.simulation.world import WorldSpec, creator_id
from headrace.streams.messages.schemas import Item

I64 = npt.NDArray[np.int64]

ITEM_TAGS = 3


class SimulatedCatalog:
    """The items, a growing number; arrays have one row for every item, and spare rows from ``size`` on."""

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
        self._home = rng.integers(0, len(THEMES), spec.creators)

    def index(self, item_ids: list[str]) -> I64:
        """Return the rows of ``item_ids``, int64 ``(n,)``; -1 for an unknown id."""
        return np.array([self._index.get(i, -1) for i in item_ids], np.int64)

    def publish(self, published: I64) -> list[Item]:
        """Add one item for each time (ms) in ``published``; return them as messages."""
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
        own = np.flatnonzero(self._home == THEME_OF[category])
        at_home = len(own) > 0 and rng.random() < 0.9
        self.creator[i] = rng.choice(own) if at_home else rng.integers(len(self._home))
        a, b = rng.choice(6, 2, replace=False)
        words = WORDS[category]
        common = COMMON_TAGS[int(rng.integers(len(COMMON_TAGS)))]
        tags = [words[a], words[b], common]
        self.tags[i] = [TAG_INDEX[t] for t in tags]
        title = TITLES[int(rng.integers(len(TITLES)))]
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
