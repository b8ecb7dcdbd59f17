"""How much is done for a request follows what it took lately, and the time that is left."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import busy, request

from headrace.models.learning.ranker import Ranker
from headrace.serving.ladder import Ladder, Quantile, Rung


def after(*took: tuple[Rung, float]) -> Ladder:
    ladder = Ladder()
    for rung, seconds in took:
        for _ in range(20):
            ladder.took(rung, seconds, 0.0)
    return ladder


def test_the_quantile_is_that_of_the_last_times() -> None:
    rng, one = np.random.default_rng(1), Quantile()
    for seconds in rng.exponential(0.01, 400):
        one.add(seconds, 0.0)
    assert 0.010 < one.read(0.0) < 0.045, "nine of ten are below 23 ms"
    for _ in range(3):
        one.add(0.3, 0.0)
    assert 0.3 <= one.read(0.0) < 0.36, "three slow ones are enough"
    for _ in range(60):
        one.add(0.002, 0.0)
    assert 0.002 <= one.read(0.0) < 0.0024
    assert Quantile().read(5.0) == 0


@pytest.mark.parametrize("seconds", [1e-7, 1e-4, 0.01, 99.0, 1e6])
def test_a_quantile_of_equal_times_is_that_time(seconds: float) -> None:
    one = Quantile()
    for _ in range(9):
        one.add(seconds, 1.0)
    expected = min(max(seconds, 1e-4), 104.9)
    assert expected * 0.999 <= one.read(1.0) <= expected * 1.2


def test_the_dearest_rung_that_fits_is_chosen() -> None:
    ladder = after(("full", 0.08), ("fewer", 0.03), ("first", 0.01))
    chosen = {left: ladder.choose(left, 0.0) for left in (0.15, 0.06, 0.02, 0.01, 0.0, -1.0)}
    assert list(chosen.values()) == ["full", "fewer", "first", "popular", "popular", "popular"]


def test_a_rung_that_was_never_tried_is_tried() -> None:
    assert Ladder().choose(0.001, 0.0) == "full"
    assert after(("full", 0.08)).choose(0.02, 0.0) == "fewer"


def test_a_rung_that_was_too_slow_is_tried_again_after_a_while_and_stays_when_it_is_fast() -> None:
    ladder = after(("full", 0.2), ("fewer", 0.01))
    assert ladder.choose(0.15, 1.0) == "fewer"
    now = 0.0
    while ladder.choose(0.15, now) != "full":
        now += 1.0
    assert 1 < now < 10
    ladder.took("full", 0.2, now)
    assert ladder.choose(0.15, now) == "fewer", "one more slow one, and it is left again"
    for _ in range(60):
        now += 10.0
        assert ladder.choose(0.15, now) == "full"
        ladder.took("full", 0.01, now)
    assert ladder.choose(0.02, now) == "full"


@pytest.mark.parametrize("rung", ["full", "fewer", "first"])
def test_each_rung_leaves_out_what_it_says(rung: Rung, trained: Ranker) -> None:
    world = busy(items=400)
    world.recommender.ranker = trained
    world.recommender.tick(request("u1").deadline_ms)
    asked = request("u1", n=5)
    calls = world.recommender.pipeline.counts()["scorer:ranker"]
    world.shown(asked)
    before, world_now = calls.calls, 1_700_000_000_000
    answer = world.recommender.answer(asked, world.row("u1"), world.anchors(asked), world_now, None, rung)
    ranked, impression = answer.ranked, answer.impression
    assert ranked is not None
    assert impression is not None
    assert len(answer.reply.items) == 5
    assert [r for r in answer.reply.degraded if r.startswith("rung:")] == (
        [] if rung == "full" else [f"rung:{rung}"]
    )
    assert (len(ranked.score) <= 125) == (rung != "full")
    assert calls.calls - before == (rung != "first")
    version = "" if rung == "first" else trained.version
    assert (answer.reply.model and answer.reply.model.ranker, impression.ranker) == (version, version)


def test_a_long_list_is_not_shorter_for_want_of_time() -> None:
    world = busy(items=400)
    asked = request("u1", n=300)
    answer = world.recommender.answer(asked, None, world.anchors(asked), 1_700_000_000_000, None, "first")
    assert len(answer.reply.items) == 300
