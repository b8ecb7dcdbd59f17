"""What lists lose on the way from the best possible one, in expected clicks, by the simulator's truth.

    best possible list > without what rests > best of the candidates > by score > rules > fresh slots > shown

Every step is a list of the same length, so what the steps lose adds up to what the list lacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from headrace.demo.simulation.simulator import Simulator, Visit
from headrace.demo.simulation.truth import best_items, expected_clicks
from headrace.models.state.shown import shown_lately
from headrace.serving.ranking import Ranked, choices
from headrace.serving.recommender import Recommender
from headrace.serving.rerank.rules import OFF, Rules

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Where a list loses, from the best possible one on.
STEPS = {
    "rest": "shown lately, so they rest",
    "candidates": "not among the candidates",
    "order": "order by score",
    "rules": "diversity, creators, boosts",
    "fresh": "slots for new items",
    "exploration": "slots by chance",
}
#: Users by their clicks: name, and the fewest.
GROUPS = (("under 3 clicks", 0), ("3 to 9 clicks", 3), ("10 clicks or more", 10))


def group_of(clicks: int) -> str:
    """Return the name of the group of a user with so many clicks."""
    return [name for name, least in GROUPS if clicks >= least][-1]


@dataclass(slots=True)
class Losses:
    """Sums over lists, of expected clicks.

    ``lost`` has one sum for each of ``STEPS``, float64 ``(len(STEPS),)``.
    """

    lists: int = 0
    best: float = 0.0
    got: float = 0.0
    lost: F64 = field(default_factory=lambda: np.zeros(len(STEPS)))

    def add(self, values: Iterable[float]) -> None:
        """Add a list: the best possible clicks, then what is left after each step."""
        left = np.array(list(values))
        self.lists += 1
        self.best += float(left[0])
        self.got += float(left[-1])
        self.lost += left[:-1] - left[1:]

    def figures(self) -> dict[str, float]:
        """Return lists, best possible clicks of a list, its share of them, and the share lost where."""
        whole = self.best or 1.0
        out = {
            "lists": float(self.lists),
            "best": round(self.best / max(1, self.lists), 4),
            "share": round(self.got / whole, 4),
        }
        return out | {name: round(float(v) / whole, 4) for name, v in zip(STEPS, self.lost, strict=True)}


class Explain:
    """Takes lists apart.

    Parameters
    ----------
    recommender
        Makes the lists of the steps.
    simulator
        Knows the truth.
    """

    def __init__(self, recommender: Recommender, simulator: Simulator) -> None:
        self._recommender, self._simulator = recommender, simulator
        self.losses = {name: Losses() for name, _ in GROUPS}

    def add(self, visit: Visit, ranked: Ranked, item_ids: list[str], now: int) -> None:
        """Take the list that a visit is about to look at; the user has not clicked yet."""
        if not self._simulator.audience.bots[visit.user]:
            clicks = self._simulator.clicks_of(visit.user)
            self.losses[group_of(clicks)].add(self._values(visit.user, ranked, item_ids, now))

    def figures(self) -> dict[str, dict[str, float]]:
        """Return the figures of all lists, and of each group of users."""
        groups = self.losses.values()
        lists, best, got = (sum(getattr(one, name) for one in groups) for name in ("lists", "best", "got"))
        every = Losses(lists, best, got, np.sum([one.lost for one in groups], 0))
        return {"all": every.figures()} | {name: one.figures() for name, one in self.losses.items()}

    def _values(self, user: int, ranked: Ranked, item_ids: list[str], now: int) -> list[float]:
        sim, n = self._simulator, len(item_ids)
        worth = sim.worth(user, now)
        awake = worth.copy()
        awake[self._resting(ranked, now)] = 0.0
        pool = self._rows(ranked, np.arange(len(ranked.score)))
        among = np.zeros(len(worth))
        among[pool] = worth[pool]
        lists = [best_items(worth, n), best_items(awake, n), best_items(among, n)]
        lists += [self._rows(ranked, self._list(ranked, rules)) for rules in _steps(self._recommender)]
        lists.append(sim.catalog.index(item_ids))
        return [expected_clicks(some, worth) for some in lists]

    def _list(self, ranked: Ranked, rules: Rules) -> I64:
        made = choices(self._recommender.data, ranked.query, ranked.pool, ranked.score)
        return self._recommender.remade(ranked, made, rules).chosen

    def _resting(self, ranked: Ranked, now: int) -> I64:
        """Return the rows of what rests because it was shown, and has not come back for want of others."""
        query, policy = ranked.query, self._recommender.policy
        if query.shown is None or query.request.surface == "related":
            return np.zeros(0, np.int64)
        keys = shown_lately(query.shown[0], now, policy.shown_rest_ms, policy.shown_most)
        back = ranked.pool.candidates.items[ranked.pool.repeated]
        return self._of_keys(keys[~np.isin(keys, back)])

    def _rows(self, ranked: Ranked, places: I64) -> I64:
        return self._of_keys(ranked.pool.candidates.items[places])

    def _of_keys(self, keys: npt.NDArray[np.uint64]) -> I64:
        catalog = self._recommender.catalog
        return self._simulator.catalog.index([catalog.id_of(int(key)) for key in keys])


def _steps(recommender: Recommender) -> list[Rules]:
    """Return the rules of the lists by score, with the rules, and with the fresh slots."""
    rules = recommender.policy.rules
    return [OFF, replace(rules, fresh_share=0.0, epsilon=0.0), replace(rules, epsilon=0.0)]
