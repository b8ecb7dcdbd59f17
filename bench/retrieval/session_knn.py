"""Session kNN with decay, to see whether it proposes what the sources do not.

VSTAN: Ludewig et al., "Empirical analysis of session-based recommendation algorithms", User Modeling and
User-Adapted Interaction 2021.

Not a part of the product: `bench_candidates.py` asks it beside the pipeline.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque

#: Clicks after which the weight of an item of the asking session, and of a neighbour, has fallen to 1/e.
_BACK, _AWAY = 2.69, 1.345
#: Time after which a neighbour counts 1/e, ms; how many of the newest sessions of an item are looked at.
_OLD_MS, _SESSIONS = 12 * 3_600_000, 500


class SessionKnn:
    """Learns clicks, and proposes what came near the same items in other sessions."""

    def __init__(self) -> None:
        self._items: dict[str, list[str]] = {}
        self._at: dict[str, int] = {}
        self._of: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_SESSIONS))

    def learn(self, session: str, item: str, ts: int) -> None:
        """Take one click, in the order of time (``ts``: ms)."""
        known = self._items.setdefault(session, [])
        self._at[session] = ts
        if item not in known:
            known.append(item)
            self._of[item].append(session)

    def best(self, session: str, items: list[str], ts: int, k: int) -> list[str]:
        """Return the ``k`` best items for a session with these clicks, the oldest first, at ``ts`` (ms)."""
        near: defaultdict[str, float] = defaultdict(float)
        for place, item in enumerate(items):
            weight = math.exp((place + 1 - len(items)) / _BACK)
            for other in self._of.get(item, ()):
                near[other] += weight
        near.pop(session, None)
        known, score = set(items), defaultdict[str, float](float)
        for other, weight in near.items():
            theirs = self._items[other]
            if len(theirs) < 2:
                continue
            alike = weight / math.sqrt(len(items) * len(theirs)) * math.exp((self._at[other] - ts) / _OLD_MS)
            common = max(place for place, item in enumerate(theirs) if item in known)
            for place, item in enumerate(theirs):
                if item not in known:
                    score[item] += alike * math.exp(-abs(place - common) / _AWAY)
        return heapq.nlargest(k, score, key=score.__getitem__)
