"""Runs in simulated time: repeatable, with parts off, and taken apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.demo.accelerated.explain import GROUPS, STEPS, Losses, group_of
from headrace.demo.accelerated.installation import PARTS, parts_off
from headrace.demo.accelerated.run import START_MS, STEP_MS, Accelerated, Run, simulate
from headrace.demo.simulation.world import WorldSpec
from headrace.demo.stack import DEMO_SETTINGS
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings

SETTINGS = Settings(**{**DEMO_SETTINGS, "train_every_s": 5.0, "train_min_rows": 500, "train_min_clicks": 10})
SMALL = Run(0.4, WorldSpec(users=80, items=300, visits_per_s=6, new_items_per_s=1), explain=True)
TIMES = ("seconds", "cpu_s")


def figures(run: Run) -> dict[str, object]:
    return {k: v for k, v in simulate(SETTINGS, run).items() if k not in TIMES}


@pytest.fixture(scope="module")
def first() -> dict[str, object]:
    return figures(SMALL)


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(first: dict[str, object]) -> None:
    assert figures(SMALL) == first
    assert all(first[name] for name in ("trainings", "examples", "new_share"))
    aucs = {first[f"online_{objective}auc"] for objective in ("", "long_view_", "like_")}
    assert len(aucs - {0.5, None}) == 3, "each has learnt something else"
    assert all(first[f"online_{objective}calibration"] for objective in ("", "long_view_", "like_"))
    other = figures(replace(SMALL, minutes=0.1, world=replace(SMALL.world, seed=8)))
    assert other["ctr_ours"] != first["ctr_ours"]


def test_what_lists_lose_adds_up_to_what_they_lack(first: dict[str, object]) -> None:
    explained = first["explain"]
    assert isinstance(explained, dict)
    every = explained["all"]
    assert every["lists"] > 10
    assert sum(every[step] for step in STEPS) + every["share"] == pytest.approx(1, abs=0.0005)
    assert min(every["rest"], every["candidates"]) >= 0
    assert every["order"] > 0
    assert every["lists"] == sum(explained[name]["lists"] for name, _ in GROUPS)


def test_sums_of_losses_by_hand() -> None:
    losses = Losses()
    losses.add([4.0, 3.0, 3.0, 2.0, 2.5, 2.5, 2.0])
    losses.add([6.0, 6.0, 5.0, 3.0, 3.0, 2.0, 2.0])
    assert losses.figures() == {
        "lists": 2, "best": 5.0, "share": 0.4,
        "rest": 0.1, "candidates": 0.1, "order": 0.3, "rules": -0.05, "fresh": 0.1, "exploration": 0.05,
    }  # fmt: skip
    assert Losses().figures()["share"] == 0
    assert [group_of(n) for n in (0, 2, 3, 9, 10)] == [GROUPS[k][0] for k in (0, 0, 1, 1, 2)]


def test_parts_that_are_off_are_not_used(tmp_path: Path) -> None:
    world = Accelerated(SETTINGS, replace(SMALL, off=parts_off(["learning"])), tmp_path)
    world.begin()
    for now in range(START_MS + STEP_MS, world.end + 1, STEP_MS):
        world.step(now)
    recommender = world.installation.recommender
    assert world.installation.learning.trainings == 1
    assert recommender.ranker is not None
    assert (recommender.online, recommender.leaves) == (None, None)
    assert recommender.catalog.vectors.version == ""
    recommender.close()


def test_learning_stands_for_every_part_and_an_unknown_one_is_named() -> None:
    assert parts_off(["learning"]) == frozenset(PARTS) == parts_off([*PARTS, "learning"])
    assert parts_off(["online", "leaves"]) == {"online", "leaves"}
    with pytest.raises(ConfigError, match="'rest'"):
        parts_off(["rest"])


def test_all_tastes_move_at_the_shift_and_nothing_else_does(tmp_path: Path) -> None:
    spec = replace(SMALL.world, shift_at_s=2.0, drift_per_min=0.0)
    world = Accelerated(SETTINGS, replace(SMALL, world=spec), tmp_path)
    audience = world.simulator.audience
    liked, taste = audience.liked.copy(), audience.category.copy()
    audience.drift(1999)
    assert np.array_equal(audience.liked, liked)
    audience.drift(2000)
    moved = audience.liked.copy()
    within = np.arange(4) < audience.liked_count[:, None]
    assert (moved != liked)[within].mean() > 0.9
    assert np.array_equal(moved[~within], liked[~within])
    assert audience.category.sum(1) == pytest.approx(taste.sum(1), abs=1e-3)  # as strongly as before
    audience.drift(4000)
    assert np.array_equal(audience.liked, moved)
    world.installation.recommender.close()
