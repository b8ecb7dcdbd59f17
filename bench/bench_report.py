"""The figures of a report beside the truth: a simulated audience says how much each user likes each item.

    python bench/bench_report.py [--lists 4000]    # prints a JSON object

Lists are made by a ranker that knows the truth with some noise, and 15 % of the slots by chance. Users click
by the formula of the demo (`demo/simulation/formula.py`). A new ranker is trained from the log. Each view of
its report stands beside ``truth``: AUC of the same scores on the same slots, with what users like instead of
what they clicked. ``as_logged`` should be above its truth: position flatters it. (3000 lists: .800, truth
.738; position fixed .679, truth .668.)
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.demo.simulation.audience import Audience
from headrace.demo.simulation.catalog import SimulatedCatalog
from headrace.demo.simulation.formula import appeal, examination
from headrace.demo.simulation.world import WorldSpec
from headrace.models.features.spec import POSITION, SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning.figures import Scored, figures
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training import TrainJob, TrainResult, train_from_log
from headrace.streams.messages.schemas import Example
from headrace.streams.settings import HOUR_MS

NOW, SLOTS, CANDIDATES = 1_790_000_000_000, 20, 60
EPSILON, NOISE = 0.15, 0.7
#: Columns that tell of the truth, and the one with the score that ordered the lists.
TASTE, QUALITY, AGE, BEFORE = (
    SPEC.index(n) for n in ("vector_user", "item_ctr_24h", "item_age_h", "online_score")
)


@dataclass
class Slots:
    """A simulated log, ``truth`` is the chance of a click on what is looked at, ``(n,)``."""

    examples: list[Example]
    truth: Any


def simulated(lists: int, seed: int = 7) -> Slots:
    """Return the slots of so many lists."""
    rng = np.random.default_rng(seed)
    spec = WorldSpec(items=800, users=400)
    audience, catalog = Audience(spec, rng), SimulatedCatalog(spec, rng)
    catalog.publish(np.sort(NOW - rng.integers(0, 48 * HOUR_MS, spec.items)))
    examples, truths = list[Example](), []
    looked = examination(np.arange(SLOTS))
    for k in range(lists):
        user = int(rng.integers(spec.users))
        items = rng.choice(catalog.size, CANDIDATES, replace=False)
        truth = appeal(audience, catalog, user, items, NOW)
        wish = np.log(truth / (1 - truth))
        before = wish + NOISE * rng.normal(size=CANDIDATES)
        order = np.argsort(-before)
        free = rng.random(SLOTS) < EPSILON
        order[:SLOTS][free] = rng.choice(order[SLOTS:], int(free.sum()), replace=False)
        chosen = order[:SLOTS]
        x = rng.normal(size=(SLOTS, len(SPEC))).astype("<f4")
        x[:, TASTE] = wish[chosen] - catalog.quality[items[chosen]] + 0.5 * rng.normal(size=SLOTS)
        x[:, QUALITY] = catalog.quality[items[chosen]] + 0.5 * rng.normal(size=SLOTS)
        x[:, AGE] = np.log1p((NOW - catalog.published[items[chosen]]) / HOUR_MS)
        x[:, BEFORE], x[:, POSITION] = before[chosen], np.arange(SLOTS)
        clicked = rng.random(SLOTS) < looked * truth[chosen]
        chance = np.where(free, EPSILON / (CANDIDATES - SLOTS), 1 - EPSILON)
        truths.append(truth[chosen])
        examples += [
            Example(
                f"r{k}", audience.ids[user], f"i{items[i]}", "home", at, NOW + k, "BR", "tv", "",
                SPEC.version, float(chance[at]), bool(free[at]), 0.1, bool(clicked[at]), 0, False, False,
                x[at].tobytes(),
            )
            for at, i in enumerate(chosen)
        ]  # fmt: skip
    return Slots(examples, np.concatenate(truths))


def train(folder: Path, examples: list[Example], trees: int) -> TrainResult:
    """Train on a log of these examples."""
    n = len(examples)
    example_log.write(folder, example_log.table_of(examples, 0, range(n), [NOW] * n), 0)
    params = RankerParams(trees=trees)
    result = train_from_log(TrainJob(folder, params, 1, 1, 10**7, 10**7, report=True))
    if result is None:
        raise SystemExit("nothing was trained")
    return result


def beside(slots: Slots, score: Any, view: str) -> float | None:
    """Return AUC of the newest slots' scores with what users like: a slot counts as both, by its chance."""
    n = len(score)
    examples, truth = slots.examples[-n:], slots.truth[-n:]
    free = np.array([e.explored for e in examples])
    keep = free if view == "explored" else np.ones(n, bool)
    position = np.array([e.position for e in examples])
    strata = position if view in ("position_fixed", "inverse_propensity") else 0 * position
    weight = np.ones(n)
    if view == "inverse_propensity":
        weight = np.minimum(1 / np.array([e.propensity for e in examples]), 20)
    both = np.flatnonzero(keep)
    twice, yes = np.r_[both, both], np.r_[np.ones(len(both), bool), np.zeros(len(both), bool)]
    weights = weight[twice] * np.where(yes, truth[twice], 1 - truth[twice])
    of = Scored(score[twice], truth[twice], yes, twice, weights, strata[twice])
    return figures(of, resamples=0)["auc"]["value"]


def main(lists: int, trees: int = 120) -> dict[str, Any]:
    """Return every view with its truth."""
    slots = simulated(lists)
    held_out = lists // 5 * SLOTS
    with tempfile.TemporaryDirectory() as folder:
        made = train(Path(folder) / "all", slots.examples, trees)
        older = train(Path(folder) / "older", slots.examples[:-held_out], trees)
    x = np.stack([np.frombuffer(e.features, "<f4") for e in slots.examples[-held_out:]])
    x[:, POSITION] = 0
    score = Ranker(older.text, SPEC.names, "older").predict(x)  # the one that the report measured
    views = made.report["objectives"]["click"]["views"]
    return {
        "lists": lists,
        "held_out": held_out,
        "auc": {
            name: {**view["figures"]["auc"], "truth": beside(slots, score, name)}
            for name, view in views.items()
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=4000)
    print(json.dumps(main(parser.parse_args().lists), indent=1))
