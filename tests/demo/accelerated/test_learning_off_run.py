"""Lists with all learning off, beside lists with learning on: a simulated minute, seeded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.demo.accelerated.installation import PARTS
from headrace.demo.accelerated.run import Run, simulate
from headrace.demo.simulation.world import WorldSpec
from headrace.demo.stack import DEMO_SETTINGS
from headrace.streams.settings import Settings

SETTINGS = Settings(**{**DEMO_SETTINGS, "train_every_s": 5.0, "train_min_rows": 500, "train_min_clicks": 10})


@pytest.mark.slow
def test_lists_are_worse_with_learning_off() -> None:
    on = Run(0.7, WorldSpec(users=150, items=800, visits_per_s=12))
    last = [
        simulate(SETTINGS, run)["best_ours_by_third"][2] for run in (on, replace(on, off=frozenset(PARTS)))
    ]
    assert last[0] > last[1] + 0.03
