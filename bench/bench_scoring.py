"""CPU of scoring the candidates of a request by three objectives: our kernel, and LightGBM's own predict.

    python bench/bench_scoring.py [--rows 500] [--trees 120] [--runs 200]    # prints a JSON object

Three rankers are trained on synthetic examples with the distributions of the real features (those of
``bench_training``). Both ways score the same rows in turns, in one thread; each figure is the median CPU time
of a request, ms. ``largest_difference`` is between the scores of both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bench_training import features

from headrace.models.features.spec import SPEC
from headrace.models.learning import ranker
from headrace.models.learning.objectives import Objective
from headrace.models.learning.ranker import Ranker, RankerParams

#: Names and weights of the objectives.
WEIGHTS = {"click": 0.3, "long_view": 0.5, "like": 0.2}


def trained(rows: int, trees: int) -> Ranker:
    """Return a ranker of three boosters."""
    rng = np.random.default_rng(3)
    x = features(rows, rng)
    ys = [(rng.random(rows) < 0.3 * x[:, SPEC.index(name)]).astype(np.float32) for name in
          ("item_ctr_24h", "prior_lately", "vector_user")]  # fmt: skip
    texts = ranker.train_each(x, ys, RankerParams(trees=trees))
    made = [
        Objective(name, weight, text) for (name, weight), text in zip(WEIGHTS.items(), texts, strict=True)
    ]
    return Ranker(made, SPEC.names, "bench")


def cpu_ms(work: Callable[[], Any]) -> float:
    """Return the CPU time of one call, ms."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def main(rows: int, trees: int, runs: int) -> dict[str, Any]:
    """Measure both ways in turns."""
    found = trained(20_000, trees)
    x = features(rows, np.random.default_rng(4))

    def stock() -> Any:
        scores = (booster.predict(x, num_threads=1, validate_features=False) for booster in found.boosters)
        return sum(one.weight * score for one, score in zip(found.objectives, scores, strict=True))

    ways = {"headrace": lambda: found.predict(x), "lightgbm": stock}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            times[name].append(cpu_ms(way))
    return {
        "rows": rows,
        "trees": trees,
        "objectives": len(found.objectives),
        "features": len(SPEC),
        **{f"{name}_cpu_ms": round(statistics.median(each), 3) for name, each in times.items()},
        **{f"{name}_p99_cpu_ms": round(float(np.quantile(each, 0.99)), 3) for name, each in times.items()},
        "largest_difference": float(np.abs(found.predict(x) - stock()).max()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--trees", type=int, default=120)
    parser.add_argument("--runs", type=int, default=200)
    args = parser.parse_args()
    print(json.dumps(main(args.rows, args.trees, args.runs)))
