"""What users without history click on their first list, and what new items get, with and without the bandits.

    python bench/bench_newcomers.py [--visits 1000] [--seeds 2]    # prints a JSON object

The audience is that of the demo. There is a past: lists of random items. Then every visit is by somebody who
was never here before; half of them tell country and age. Each list has 10 lines. Its clicks are drawn from
the hidden tastes and counted, so that visitors teach the next visitor. Figures are expected clicks by the
hidden tastes, not the clicks drawn. ``first_5``: the click rate of the first five lines; ``any_5``: the
chance of a click there. ``list``: expected clicks of the list. ``new``: the click rate of items in their
freshness budget, once looked at, and their share of the lines. Lists are scored by the fixed blend: no model
has been learnt. Every arm sees the same visitors.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np

from headrace.demo.simulation.formula import appeal, examination
from headrace.demo.simulation.simulator import Simulator
from headrace.demo.simulation.vocabulary import COUNTRIES
from headrace.demo.simulation.world import WorldSpec
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.serving.rerank.rules import Rules
from headrace.streams.messages.ages import age_group
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Context, Item, RecRequest

START = 1_764_000_000_000
LINES, FIRST = 10, 5
#: Time between two visits, ms; new items a second.
STEP_MS, NEW_PER_S = 1000, 0.2
#: Lists of random items before the start: so something is known of most items.
PAST = 1000
ARMS = {
    "before": Rules(welcome=0, fresh_prior=False, fresh_share=0.1),
    "welcome": Rules(fresh_prior=False, fresh_share=0.1),
    "fresh_prior": Rules(welcome=0, fresh_share=0.1),
    "both": Rules(fresh_share=0.1),
    "no_fresh_slots": Rules(welcome=0, fresh_share=0.0),
}


class Arm:
    """One installation, its visitors, and what their lists are worth."""

    def __init__(self, rules: Rules, seed: int) -> None:
        endless = float("inf")
        policy = replace(Policy(rules=rules), part_ms=endless, candidates_ms=endless)
        self.recommender = Recommender(policy)
        self.sim = Simulator(WorldSpec(seed=seed, items=1500, users=1000, new_items_per_s=NEW_PER_S), START)
        self._offset, self._policy = 0, policy
        self.rows: list[tuple[float, ...]] = []
        self._publish(self.sim.starting_items(), START)
        rng = np.random.default_rng([11, seed])
        for number in range(PAST):
            who, at = self._somebody(rng), START - (PAST - number) * STEP_MS
            rows = rng.choice(self.sim.catalog.size, LINES, replace=False)
            listed = [self.sim.catalog.ids[i] for i in rows.tolist()]
            self._look(listed, who, Context(), at, rng.random(LINES))

    def _somebody(self, rng: np.random.Generator) -> int:
        return int(rng.choice(self.sim.spec.users, p=self.sim.audience.activity))

    def _publish(self, items: list[Item], now: int) -> None:
        catalog = self.recommender.catalog
        for item in items:
            key = catalog.put(item)
            vector = catalog.vector(key)
            if vector is not None:
                self.recommender.hot.put(key, vector, item.published_ts, now)

    def _count(self, items: list[str], kind: str, ts: int, country: str, group: int) -> None:
        out = np.zeros(len(items), ITEM_EVENT)
        out["item"], out["country"], out["kind"] = hash_many(items), hash64(country), KIND[kind]
        out["age_group"], out["ts"], out["amount"] = group if country else 0, ts, 1
        self._offset += 1
        rows, places = self.recommender.stats.apply(out, np.full(len(out), self._offset))
        self.recommender.trending.changed(rows)
        self.recommender.trending.countries_changed(places)

    def visit(self, number: int, rng: np.random.Generator) -> None:
        """Let somebody new come, look and click."""
        now = START + number * STEP_MS
        self._publish(self.sim.new_items(now), now)
        who = self._somebody(rng)
        context = Context()
        if rng.random() < 0.5:
            audience = self.sim.audience
            context = Context(country=COUNTRIES[int(audience.country[who])], age=int(audience.age[who]))
        draws = rng.random(LINES)
        request = RecRequest(f"r{number}", f"new-{number}", "home", n=LINES, context=context)
        self.recommender.tick(now)
        answer = self.recommender.answer(request, None, Anchors(), now)
        listed = [i.item_id for i in answer.reply.items]
        self._note(listed, who, now)
        self._look(listed, who, context, now, draws)

    def _look(self, listed: list[str], who: int, context: Context, now: int, draws: Any) -> None:
        """Count a list and the clicks on it."""
        chance, group = self._chance(listed, who, now), age_group(context.age)
        self._count(listed, "shown", now, context.country, group)
        clicked = [name for name, c, d in zip(listed, chance, draws, strict=False) if d < c]
        if clicked:
            self._count(clicked, "click", now, context.country, group)

    def _chance(self, listed: list[str], who: int, now: int) -> Any:
        rows = self.sim.catalog.index(listed)
        worth = appeal(self.sim.audience, self.sim.catalog, who, rows, now)
        return worth * examination(np.arange(len(rows)))

    def _note(self, listed: list[str], who: int, now: int) -> None:
        chance, policy = self._chance(listed, who, now), self._policy
        stats = self.recommender.stats.rows_of(hash_many(listed))
        shown = stats["totals"][:, 0]
        young = self.sim.catalog.published[self.sim.catalog.index(listed)] > now - policy.fresh_ms
        fresh = young & (shown < policy.fresh_shown)
        worth = (chance / examination(np.arange(len(listed))))[fresh]
        any_5 = 1 - np.prod(1 - chance[:FIRST])
        self.rows.append((chance[:FIRST].sum(), chance.sum(), fresh.sum(), worth.sum(), len(listed), any_5))


def summary(rows: list[tuple[float, ...]]) -> dict[str, float]:
    """Return the figures of some lists."""
    first, whole, fresh, worth, lines, any_5 = np.array(rows).sum(0)
    n = len(rows)
    return {
        "first_5": round(first / n / FIRST, 4),
        "any_5": round(any_5 / n, 4),
        "list": round(whole / n, 4),
        "new": round(worth / max(1, fresh), 4),
        "new_share": round(fresh / lines, 4),
    }


def main() -> None:
    """Run all arms and print their figures, of all visits and of the second half."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--visits", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--arms", default=",".join(ARMS))
    options = parser.parse_args()
    out: dict[str, Any] = {"visits": options.visits, "seeds": options.seeds}
    for name in options.arms.split(","):
        every, late = [], []
        for seed in range(options.seeds):
            arm, rng = Arm(ARMS[name], 7 + seed), np.random.default_rng([5, seed])
            for number in range(options.visits):
                arm.visit(number, rng)
            every += arm.rows
            late += arm.rows[options.visits // 2 :]
            arm.recommender.close()
        spread = np.std([row[0] / FIRST for row in every]) / len(every) ** 0.5
        out[name] = {**summary(every), "error_first_5": round(float(spread), 5), "second_half": summary(late)}
    print(json.dumps(out))


if __name__ == "__main__":
    main()
