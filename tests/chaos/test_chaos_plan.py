"""The plan of a chaos run: seeded, complete, and possible."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import get_args

import pytest
from chaos_plan import BROKER_AWAY_S, ON_WORKERS, Action, make_plan, role_of, worker_names
from chaos_shape import (
    AHEAD_S,
    FULL,
    QUICK,
    WIDE,
    WIDE_PARTITIONS,
    After,
    Extra,
    Kind,
    Shape,
    names_of,
    with_shards,
    without,
)
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.settings import Settings

SHAPES = pytest.mark.parametrize(
    "shape", [FULL, QUICK, with_shards(QUICK)], ids=["full", "quick", "quick with a cluster"]
)
SEEDS = st.integers(0, 2**32)


def test_the_full_run_is_as_hard_as_promised() -> None:
    assert FULL.events >= 300_000
    assert sum(FULL.kills.values()) >= 20
    assert len(FULL.joins) + len(FULL.leaves) >= 4
    assert "broker-stop" in FULL.broker
    assert sum(kind in ("redis-kill", "redis-flush") for kind in FULL.redis) >= 2
    assert len(FULL.freezes) >= 1


def test_the_wide_run_has_as_many_workers_as_promised_and_breaks_nothing() -> None:
    assert WIDE_PARTITIONS == 64
    many = {role for role, count in WIDE.workers.items() if count == 8}
    assert many == {"ingest", "aggregate", "learn", "serve"}
    assert make_plan(1, WIDE) == []


@SHAPES
def test_every_role_is_killed_and_the_two_stages_have_two_workers(shape: Shape) -> None:
    assert set(shape.kills) == set(shape.workers)
    assert min(shape.kills.values()) >= 1
    assert sum(shape.kills.values()) >= 8
    assert min(shape.workers["ingest"], shape.workers["aggregate"]) >= 2


@SHAPES
@given(seed=SEEDS)
def test_a_plan_holds_everything_and_is_the_same_again(shape: Shape, seed: int) -> None:
    plan = make_plan(seed, shape)
    assert plan == make_plan(seed, shape)
    assert [a.at_s for a in plan] == sorted(a.at_s for a in plan)
    kinds = Counter(a.kind for a in plan)
    assert Counter(role_of(a.target) for a in plan if a.kind == "kill") == shape.kills
    assert kinds["freeze"] == len(shape.freezes)
    assert kinds["join"] == len(shape.joins)
    assert kinds["leave"] == len(shape.leaves)
    for target, wanted in (("broker", shape.broker), ("redis", shape.redis)):
        assert Counter(a.kind for a in plan if a.target == target) == Counter(wanted)


@SHAPES
@given(seed=SEEDS)
def test_nothing_is_done_to_a_worker_that_is_not_up(shape: Shape, seed: int) -> None:
    back: dict[str, float] = dict.fromkeys(worker_names(shape.workers), 0.0)
    for action in make_plan(seed, shape):
        name = action.target
        if action.kind not in (*ON_WORKERS, "join"):
            continue
        if action.kind == "join":
            assert name not in back
            back[name] = action.at_s
            continue
        assert back[name] <= action.at_s, (name, action)
        back[name] = action.at_s + action.for_s if action.for_s else float("inf")


@SHAPES
@given(seed=SEEDS)
def test_zombies_sleep_longer_than_their_session(shape: Shape, seed: int) -> None:
    assert all(a.for_s > shape.session_s + 1 for a in make_plan(seed, shape) if a.kind == "freeze")


@SHAPES
@given(seed=SEEDS)
def test_outages_of_one_server_do_not_meet_and_end_in_time(shape: Shape, seed: int) -> None:
    plan = make_plan(seed, shape)
    for target in ("broker", "redis"):
        outages = [a for a in plan if a.target == target]
        assert all(a.for_s == BROKER_AWAY_S for a in outages if a.kind in ("broker-stop", "broker-kill"))
        for a, b in pairwise(outages):
            assert a.at_s + a.for_s + 5 < b.at_s
        assert all(a.at_s + a.for_s < shape.seconds for a in outages)


def test_the_full_run_breaks_everything_that_is_known() -> None:
    assert names_of(FULL) == {*get_args(Kind), *get_args(Extra), *get_args(After)}
    assert {role for _, role in FULL.groups} >= {"ingest", "aggregate", "learn", "log"}
    assert {role for role, _ in FULL.clocks} >= {"ingest", "aggregate", "learn", "serve"}


def test_the_quick_run_has_most_kinds() -> None:
    assert names_of(FULL) - names_of(QUICK) <= {
        "broker-kill", "redis-flush", "redis-freeze", "redis-away", *get_args(After)
    }  # fmt: skip
    assert QUICK.afterwards


@SHAPES
@given(seed=SEEDS)
def test_never_are_two_clocks_wrong_at_once_nor_two_groups_moved(shape: Shape, seed: int) -> None:
    plan = make_plan(seed, shape)
    clocks = [a for a in plan if a.kind == "clock"]
    assert sorted((role_of(a.target), a.amount) for a in clocks) == sorted(shape.clocks)
    assert all(a.at_s + a.for_s < b.at_s for a, b in pairwise(clocks))
    assert all(a.for_s > 4 and a.at_s + a.for_s < shape.seconds for a in clocks)
    moves = [a for a in plan if a.kind in ("group-back", "group-beyond")]
    assert sorted((a.kind, a.target) for a in moves) == sorted(shape.groups)
    assert all(1000 <= a.amount <= 5000 for a in moves)


@SHAPES
@given(seed=SEEDS)
def test_a_full_disk_lasts_longer_than_the_flushes_that_need_it_and_ends_in_time(
    shape: Shape, seed: int
) -> None:
    full = [a for a in make_plan(seed, shape) if a.kind == "disk-full"]
    assert len(full) == shape.disk
    assert all(a.for_s >= 8 and a.at_s + a.for_s < shape.seconds for a in full)


def test_two_small_steps_of_the_clock_are_no_future() -> None:
    small = [abs(s) for shape in (FULL, QUICK) for _, s in shape.clocks if abs(s) < AHEAD_S]
    assert 2 * max(small) * 1000 < Settings().future_ms


@pytest.mark.parametrize("name", sorted(names_of(FULL)))
def test_what_is_left_out_is_not_in_the_plan(name: str) -> None:
    shape = without(FULL, {name})
    assert names_of(shape) == names_of(FULL) - {name}
    assert name not in {a.kind for a in make_plan(1, shape)}


@SHAPES
def test_moments_differ_between_seeds(shape: Shape) -> None:
    def moments(seed: int) -> set[tuple[float, str]]:
        return {(a.at_s, a.target) for a in make_plan(seed, shape)}

    assert not moments(1) & moments(2)


@given(seed=SEEDS)
def test_a_role_with_one_worker_can_be_killed_again_and_again(seed: int) -> None:
    shape = Shape(
        seconds=20, events=0, dedup_window_ms=1, workers={"learn": 1}, kills={"learn": 6},
        freezes=(), joins=(), leaves=(), broker=(), redis=(),
    )  # fmt: skip
    plan: list[Action] = make_plan(seed, shape)
    assert len(plan) == 6
    for a, b in pairwise(plan):
        assert a.at_s + a.for_s <= b.at_s
