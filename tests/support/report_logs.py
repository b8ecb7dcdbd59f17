"""Logs whose truth is known: what decides a click there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from logged_examples import write

from headrace.models.features.spec import POSITION, SPEC
from headrace.models.learning.ranker import RankerParams
from headrace.models.learning.training import TrainJob, TrainResult, train_from_log
from headrace.streams.messages.schemas import Example

#: The feature that decides in the log of kind "feature".
DECIDES = "item_ctr_1h"
SLOTS = 10


def slots(n: int, kind: Literal["position", "order", "feature"], seed: int = 0) -> list[Example]:
    """Return the slots of lists of ``SLOTS``; 15 % are explored, with a chance of .05.

    Clicks follow the position alone (position, order) or the feature ``DECIDES`` (feature). In "order", that
    feature is what the lists were ordered by; it says nothing else.
    """
    rng, out = np.random.default_rng(seed), list[Example]()
    others = np.random.default_rng([seed, 1])  # apart: one feature more changes no position and no click
    column = SPEC.index(DECIDES)
    for i in range(n):
        at, free = i % SLOTS, bool(rng.random() < 0.15)
        x = others.normal(size=len(SPEC)).astype("<f4")
        x[POSITION], x[column] = at, rng.normal()
        if kind == "order" and not free:
            x[column] = -at + 0.3 * rng.normal()
        chance = (0.6 if x[column] > 0.5 else 0.05) if kind == "feature" else 0.6 / (1 + at)
        clicked = bool(rng.random() < chance)
        out.append(
            Example(
                f"r{i // SLOTS}", f"u{i // SLOTS % 97}", f"i{i % 50}", "home", at, 1000 + i // SLOTS, "BR",
                "tv", "", SPEC.version, 0.05 if free else 0.85, free, 0.1, clicked, 0,
                bool(clicked and i % 3),
                False, x.tobytes(),
            )
        )  # fmt: skip
    return out


def trained(folder: Path, examples: list[Example], **options: Any) -> TrainResult:
    """Write a log and train on it, with a report."""
    write(folder, examples)
    params = RankerParams(trees=30, leaves=7, min_leaf=50)
    told = {"min_rows": 10, "min_clicks": 1, "max_rows": 10**6, "sample_rows": 10**6, "report": True}
    result = train_from_log(TrainJob(folder, params, **{**told, **options}))
    assert result is not None
    return result
