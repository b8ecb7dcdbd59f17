"""What a rollout does with good and bad candidates, on simulated users.

    python bench/bench_rollout.py [--runs 200] [--users 20000]    # prints a JSON object

Users differ in how often they come and how often they click, so their examples are not independent; click
rates rise and fall with the hour; each day some of the users come. The decisions are those of the live
system, looked for every hour (``models/learning/rollout.py``), by clicks, watch time, and users who return
the next day.

``same``: the candidate is as good as the live ranker; ``same_at_50_percent``: so, and the rollout begins
where it can become live. ``better_2_percent``: 2 % more clicks, with as many users as that needs.
``flipped_labels``: a LightGBM ranker trained on flipped labels; its loss of clicks is measured on lists, and
the gate, which would have refused it before, is asked, too. ``more_clicks_fewer_return``: 10 % more clicks,
and users come on 10 % fewer days; ``without_returns`` is the same where only clicks and watch time are looked
at.

``three_same``: three candidates in the shadow, each as good as the live ranker. The one with the best
estimate goes further first; when it is gone, the next one does. It is promoted when any of them becomes live.
``at_50_percent``: the same, every one of them begins where it can become live, and it is not looked at who
returns; ``without_correction`` is that where each has all of alpha. These have a tenth of the users, and two
days for a stage. ``one_is_better``: one of the three has 10 % more clicks, with all users, and seven days.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headrace.models.features.spec import SPEC
from headrace.models.learning import gate, pointers
from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.counterfactual import slot_totals
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.ranker import Ranker, RankerParams, train
from headrace.models.learning.rollout import Rules, decide
from headrace.models.learning.sequential import CLUSTERS
from headrace.models.learning.visits import Visits
from headrace.streams.settings import DAY_MS, HOUR_MS

#: Mean number of examples of a user in a day.
PER_DAY = 40.0


@dataclass
class Users:
    """Simulated users; every array is ``(n,)``.

    ``lift`` and ``stay`` say how much more users click, and on how many more days they come, with the
    candidate (shares).
    """

    n: int
    rng: np.random.Generator
    lift: float = 0.0
    stay: float = 0.0
    rate: np.ndarray[Any, Any] = field(init=False)
    clicks: np.ndarray[Any, Any] = field(init=False)
    place: np.ndarray[Any, Any] = field(init=False)
    cluster: np.ndarray[Any, Any] = field(init=False)
    comes: np.ndarray[Any, Any] = field(init=False)
    here: np.ndarray[Any, Any] = field(init=False)
    came: np.ndarray[Any, Any] = field(init=False)

    def __post_init__(self) -> None:
        n, rng = self.n, self.rng
        self.rate = (
            np.exp(rng.normal(-0.5, 1.0, n)) * 2 * PER_DAY / 24
        )  # examples in an hour, of half the days
        self.clicks = rng.beta(4, 76, n)  # chance of a click, mean .05
        self.place = rng.random(n)
        self.cluster = rng.integers(0, CLUSTERS, n)
        self.comes = rng.beta(2, 2, n)  # chance to come on a day, mean .5
        self.here = rng.random(n) < self.comes
        self.came = np.zeros(n, bool)  # in the present period of the stage

    def hour(self, hour: int, counts: ArmCounts) -> None:
        """Count what happens in an hour of the stage."""
        rng, tried = self.rng, self.place < counts.share / 100
        if hour % 24 == 0:
            self.here = rng.random(self.n) < self.comes * np.where(tried, 1 + self.stay, 1.0)
        if (hour * HOUR_MS - counts.since) % DAY_MS == HOUR_MS:
            self.came[:] = False
        who = np.flatnonzero(self.here)
        n = rng.poisson(self.rate[who])
        who, n = who[n > 0], n[n > 0]
        arm = tried[who].astype(np.int64)
        hourly = 1 + 0.3 * np.sin(hour * 2 * np.pi / 24)
        chance = self.clicks[who] * hourly * np.where(arm, 1 + self.lift, 1.0)
        clicks = rng.binomial(n, np.minimum(chance, 1.0))
        watch = np.zeros(len(who), np.int64)
        watch[clicks > 0] = rng.standard_gamma(clicks[clicks > 0]) * 30_000
        at = arm * CLUSTERS + self.cluster[who]
        for k, values in enumerate((n, clicks, watch)):
            counts.totals[:, k] += np.bincount(at, values, 2 * CLUSTERS).astype(np.int64).reshape(2, CLUSTERS)
        if counts.visits is not None:
            new = ~self.came[who]
            self._visit(who[new], arm[new], hour, counts, counts.visits)

    def _visit(self, who: Any, arm: Any, hour: int, counts: ArmCounts, visits: Visits) -> None:
        """Count users who come for the first time in a period."""
        self.came[who] = True
        keys = self.cluster[who].astype(np.uint64) << np.uint64(57) | who.astype(np.uint64)
        visits.add(arm, np.full(len(who), hour * HOUR_MS - 1), keys)
        counts.returns = visits.totals()


def shadows(users: Users, p: Pointers, counts: ArmCounts, lifts: Mapping[str, float], slots: int) -> None:
    """Count what the candidates in the shadow would have shown: ``slots`` slots of the live arm for each.

    A slot has one of two items, by chance; users click either with their own rate. A candidate wants one of
    them by chance, too, and its lift is what that is clicked more.
    """
    rng = users.rng
    for version in p.candidates():
        who = rng.integers(0, users.n, slots)
        match = rng.random(slots) < 0.5
        rate = users.clicks[who]
        clicked = rng.random(slots) < rate * np.where(match, 1 + lifts.get(version, 0.0), 1.0)
        added = slot_totals(match, np.full(slots, 0.5), clicked, rate, rate)
        totals = counts.shadows.setdefault(version, np.zeros((len(added), CLUSTERS), np.int64))
        for k, values in enumerate(added):
            np.add.at(totals[k], users.cluster[who], values)


def rollout(
    users: Users,
    rules: Rules,
    share: int = 0,
    return_ms: int = DAY_MS,
    lifts: Mapping[str, float] | None = None,
    slots: int = 5000,
) -> dict[str, Any]:
    """Run a rollout to its end; return its last stage, whether it was promoted, hours and examples.

    It begins at ``share`` percent. With ``return_ms`` 0 it is not looked at whether users return. ``lifts``
    has the candidates, and how many more clicks each gets (a share); without it there is one, with the lift
    of the users. With several, ``slots`` of the shadow are counted for each in an hour.
    """
    lifts = lifts or {"new": users.lift}
    p = pointers.offered(Pointers(), "live", 0, "bench")
    for version in lifts:
        p = pointers.offered(p, version, 0, "bench", most=len(lifts))
    hour, examples, tried = 0, 0, 0
    counts = ArmCounts(p, {}, return_ms)
    while p.candidate and p.live == "live":
        if not p.share and share:  # this candidate skips the stages before
            while p.share < share:
                p = pointers.promoted(p, hour * HOUR_MS, "bench", "")
            counts = ArmCounts(p, {}, return_ms)
        hour += 1
        users.lift = lifts[p.candidate]
        if p.share:
            users.hour(hour, counts)
        elif len(lifts) > 1:
            shadows(users, p, counts, lifts, slots)
        last, decision = p.share, decide(p, counts, hour * HOUR_MS, rules)
        if decision.action == "wait":
            continue
        tried += decision.action == "promote" and not p.share
        examples += int(counts.totals[1, 0].sum())
        change = pointers.promoted if decision.action == "promote" else pointers.rolled_back
        p = change(p, hour * HOUR_MS, "bench", decision.reason, decision.version)
        counts = ArmCounts(p, {}, return_ms)
    figures = {
        "stage": last,
        "promoted": p.live != "live",
        "hours": hour,
        "examples": examples,
        "why": p.reason,
    }
    return figures | {"live": p.live, "tried": tried}


def told(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of some rollouts."""
    return {
        "runs": len(runs),
        "promoted": sum(r["promoted"] for r in runs),
        "ended_at": {str(s): sum(r["stage"] == s for r in runs) for s in (0, 1, 10, 50)},
        "median_hours": float(np.median([r["hours"] for r in runs])),
        "median_examples": float(np.median([r["examples"] for r in runs])),
    }


# --- a candidate of flipped labels ---


def world(n: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return features ``(n, len(SPEC))``, and the chance of a click on each row."""
    x = rng.normal(size=(n, len(SPEC))).astype(np.float32)
    return x, 1 / (1 + np.exp(3.5 - 1.2 * x[:, 0] - 0.8 * x[:, 4] * (x[:, 7] > 0)))


def clicks_of(ranker: Ranker, rng: np.random.Generator, requests: int = 1000, pool: int = 50) -> float:
    """Return the mean chance of a click on the ten best of each pool."""
    x, chance = world(requests * pool, rng)
    best = np.argsort(-ranker.predict(x).reshape(requests, pool), axis=1)[:, :10]
    return float(np.take_along_axis(chance.reshape(requests, pool), best, 1).mean())


def flipped(seed: int, rows: int = 20_000) -> dict[str, Any]:
    """Return what the gate says of a candidate of flipped labels, and how many clicks it loses (a share)."""
    rng = np.random.default_rng(seed)

    def fit(*, swap: bool) -> Ranker:
        x, chance = world(rows, rng)
        y = (rng.random(rows) < chance) ^ swap
        return Ranker(train(x, y.astype(np.float32), RankerParams(trees=40)), SPEC.names, "v")

    live, bad = fit(swap=False), fit(swap=True)
    x, chance = world(rows, rng)
    figures = gate.compare(bad, live, x, rng.random(rows) < chance, np.arange(rows, dtype=np.uint64) // 20)
    lift = clicks_of(bad, np.random.default_rng(seed)) / clicks_of(live, np.random.default_rng(seed)) - 1
    return {"gate": gate.refusal(figures, 0.02), "lift": round(lift, 3)}


def several(users: int, runs: int, rules: Rules) -> dict[str, Any]:
    """Return the figures of rollouts of three candidates; see the head of this module."""
    each = replace(rules, alpha=rules.alpha / 3)  # as ``Rules.of`` does
    same = dict.fromkeys(("one", "two", "three"), 0.0)

    def of(n: int, count: int, lifts: Mapping[str, float], how: Rules, **more: int) -> list[dict[str, Any]]:
        made = (Users(n, np.random.default_rng(10_000 + s)) for s in range(count))
        return [rollout(u, how, lifts=lifts, **more) for u in made]

    week = replace(each, max_ms=7 * DAY_MS)
    better = of(10 * users, max(1, runs // 40), same | {"two": 0.1}, week)
    at_half = {"share": 50, "return_ms": 0}
    return {
        "three_same": {
            **told(of(users, runs, same, each)),
            "at_50_percent": told(of(users, runs, same, each, **at_half)),
            "without_correction": told(of(users, runs, same, rules, **at_half)),
        },
        "one_is_better": {
            "users": 10 * users,
            **told(better),
            "the_better_one": sum(r["live"] == "two" for r in better),
            "it_was_first": sum(r["live"] == "two" and r["tried"] == 1 for r in better),
        },
    }


def main(runs: int, users: int, many: int) -> dict[str, Any]:
    """Return the figures.

    Parameters
    ----------
    runs
        Rollouts of a candidate that is as good as the live ranker.
    users
        Number of users in them.
    many
        Number of users in the rollouts of a candidate that is better.
    """
    began, rules = time.process_time(), Rules()
    bad = flipped(1)
    few = max(1, runs // 40)

    def of(n: int, count: int, lift: float = 0.0, stay: float = 0.0, **how: int) -> list[dict[str, Any]]:
        return [rollout(Users(n, np.random.default_rng(s), lift, stay), rules, **how) for s in range(count)]

    three = several(users // 10, runs, replace(rules, max_ms=2 * DAY_MS))
    same, half = of(users, runs), of(users, runs, share=50)
    better = of(many, few, 0.02)
    worse = of(users, few, bad["lift"])
    leaving = of(users, 4 * few, 0.1, -0.1)
    unnoticed = of(users, 4 * few, 0.1, -0.1, return_ms=0)
    return {
        "alpha": rules.alpha,
        "users": users,
        "same": told(same),
        "same_at_50_percent": told(half),
        "better_2_percent": {"users": many, **told(better)},
        "flipped_labels": {**bad, **told(worse), "why": worse[0]["why"]},
        "more_clicks_fewer_return": {
            **told(leaving),
            "why": leaving[0]["why"],
            "without_returns": told(unnoticed),
        },
        **three,
        "cpu_s": round(time.process_time() - began, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=300_000)
    args = parser.parse_args()
    print(json.dumps(main(args.runs, args.users, args.many), indent=2))
