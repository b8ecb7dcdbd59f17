"""What a rollout does with good and bad candidates, on simulated users.

    python bench/bench_rollout.py [--runs 200] [--users 20000]    # prints a JSON object

Users differ in how often they come and how often they click, so their examples are not independent; click
rates rise and fall with the hour. The decisions are those of the live system, looked for every hour
(``models/learning/rollout.py``). ``same``: the candidate is as good as the live ranker;
``same_at_50_percent``: so, and the rollout begins where it can become live. ``better_2_percent``: 2 % more
clicks, with as many users as that needs. ``flipped_labels``: a LightGBM ranker trained on flipped labels; its
loss of clicks is measured on lists, and the gate, which would have refused it before, is asked, too.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.models.features.spec import SPEC
from headrace.models.learning import gate, pointers
from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.ranker import Ranker, RankerParams, train
from headrace.models.learning.rollout import Rules, decide
from headrace.models.learning.sequential import CLUSTERS

HOUR_MS = 3_600_000
#: Mean number of examples of a user in a day.
PER_DAY = 40.0


@dataclass
class Users:
    """Simulated users; every array is ``(n,)``."""

    n: int
    rng: np.random.Generator
    rate: np.ndarray[Any, Any] = field(init=False)
    clicks: np.ndarray[Any, Any] = field(init=False)
    place: np.ndarray[Any, Any] = field(init=False)
    cluster: np.ndarray[Any, Any] = field(init=False)

    def __post_init__(self) -> None:
        n, rng = self.n, self.rng
        self.rate = np.exp(rng.normal(-0.5, 1.0, n)) * PER_DAY / 24  # examples in an hour
        self.clicks = rng.beta(4, 76, n)  # chance of a click, mean .05
        self.place = rng.random(n)
        self.cluster = rng.integers(0, CLUSTERS, n)

    def hour(self, hour: int, share: int, lift: float, counts: ArmCounts) -> None:
        """Count what happens in an hour while the candidate answers ``share`` percent."""
        rng = self.rng
        n = rng.poisson(self.rate)
        who = np.flatnonzero(n)
        arm = (self.place[who] < share / 100).astype(np.int64)
        chance = self.clicks[who] * (1 + 0.3 * np.sin(hour * 2 * np.pi / 24)) * np.where(arm, 1 + lift, 1.0)
        clicks = rng.binomial(n[who], np.minimum(chance, 1.0))
        watch = (rng.standard_gamma(np.maximum(clicks, 1e-9)) * 30_000).astype(np.int64)
        at = arm * CLUSTERS + self.cluster[who]
        for k, values in enumerate((n[who], clicks, watch)):
            counts.totals[:, k] += np.bincount(at, values, 2 * CLUSTERS).astype(np.int64).reshape(2, CLUSTERS)


def rollout(users: Users, lift: float, rules: Rules, share: int = 0) -> dict[str, Any]:
    """Run a rollout to its end; return its last stage, whether it was promoted, hours and examples.

    It begins at ``share`` percent.
    """
    p = pointers.offered(pointers.offered(Pointers(), "live", 0, "bench"), "new", 0, "bench")
    while p.share < share:
        p = pointers.promoted(p, 0, "bench", "")
    hour, examples = 0, 0
    counts = ArmCounts(p, {})
    while p.candidate:
        hour += 1
        if p.share:
            users.hour(hour, p.share, lift, counts)
        last, decision = p.share, decide(p, counts, hour * HOUR_MS, rules)
        if decision.action == "wait":
            continue
        examples += int(counts.totals[1, 0].sum())
        change = pointers.promoted if decision.action == "promote" else pointers.rolled_back
        p = change(p, hour * HOUR_MS, "bench", decision.reason)
        counts = ArmCounts(p, {})
    return {"stage": last, "promoted": p.live == "new", "hours": hour, "examples": examples, "why": p.reason}


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
    same = [rollout(Users(users, np.random.default_rng(s)), 0.0, rules) for s in range(runs)]
    half = [rollout(Users(users, np.random.default_rng(s)), 0.0, rules, 50) for s in range(runs)]
    better = [rollout(Users(many, np.random.default_rng(s)), 0.02, rules) for s in range(few)]
    worse = [rollout(Users(users, np.random.default_rng(s)), bad["lift"], rules) for s in range(few)]
    return {
        "alpha": rules.alpha,
        "users": users,
        "same": told(same),
        "same_at_50_percent": told(half),
        "better_2_percent": {"users": many, **told(better)},
        "flipped_labels": {**bad, **told(worse), "why": worse[0]["why"]},
        "cpu_s": round(time.process_time() - began, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    args = parser.parse_args()
    print(json.dumps(main(args.runs, args.users, args.many), indent=2))
