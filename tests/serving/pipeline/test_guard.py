from __future__ import annotations

from typing import Any

import pytest
from worlds import World, request

from headrace.serving.pipeline.guard import FIRST_REST_S, IN_A_ROW, LONGEST_REST_S, Guarded
from headrace.serving.pipeline.parts import Rest
from headrace.serving.pipeline.query import Query


class Seconds:
    """A clock that a part moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Slow(Rest):
    name = "slow"
    clock: Seconds
    takes = 0.0
    fails = False

    def resting(self, query: Query) -> list[int]:
        self.clock.now += self.takes
        if self.fails:
            raise ValueError("no")
        return [7]


@pytest.fixture
def guarded() -> Guarded[Slow]:
    part = Slow(World().recommender.data)
    part.clock = Seconds()
    return Guarded(part, 0.010, part.clock)


def ask(guarded: Guarded[Slow]) -> tuple[Any, list[str]]:
    left_out: list[str] = []
    query = World().recommender.query(request(), None, World().anchors(request()), 0, 1)
    return guarded.run(lambda part: part.resting(query), left_out), left_out


def test_a_part_that_does_well_is_timed_and_counted(guarded: Guarded[Slow]) -> None:
    guarded.part.takes = 0.004
    for _ in range(5):
        assert ask(guarded) == ([7], [])
    counts = guarded.counts
    assert (counts.calls, counts.failed, counts.slow, counts.left_out) == (5, 0, 0, 0)
    assert counts.seconds == pytest.approx(0.020)


def test_a_failure_is_named_and_counted_and_the_part_is_asked_again(guarded: Guarded[Slow]) -> None:
    guarded.part.fails = True
    assert ask(guarded) == (None, ["rest:slow"])
    guarded.part.fails = False
    assert ask(guarded) == ([7], [])
    assert (guarded.counts.calls, guarded.counts.failed) == (2, 1)


@pytest.mark.parametrize("how", [{"fails": True}, {"takes": 0.011}])
def test_three_bad_calls_running_leave_it_out_for_a_while(
    guarded: Guarded[Slow], how: dict[str, Any]
) -> None:
    part, rest_s = guarded.part, FIRST_REST_S
    for name, value in how.items():
        setattr(part, name, value)
    for _ in range(IN_A_ROW):
        ask(guarded)
    for _ in range(8):
        calls = guarded.counts.calls
        until = part.clock.now + rest_s
        part.clock.now = until - 0.001
        assert ask(guarded) == (None, ["rest:slow"])
        assert guarded.counts.calls == calls, "it was called while it is left out"
        part.clock.now = until
        ask(guarded)
        assert guarded.counts.calls == calls + 1
        rest_s = min(2 * rest_s, LONGEST_REST_S)
    assert rest_s == LONGEST_REST_S


def test_a_required_part_that_fails_at_every_request_is_told_now_and_then(
    guarded: Guarded[Slow], caplog: pytest.LogCaptureFixture
) -> None:
    guarded._required, guarded.part.fails = True, True
    for _ in range(50):
        assert ask(guarded) == (None, ["rest:slow"])
    assert guarded.counts.calls == 50
    assert len(caplog.records) == IN_A_ROW + 1
    guarded.part.clock.now += FIRST_REST_S
    ask(guarded)
    assert len(caplog.records) == IN_A_ROW + 2


def test_one_good_call_forgives(guarded: Guarded[Slow]) -> None:
    for _ in range(10):
        guarded.part.takes = 0.011
        for _ in range(IN_A_ROW - 1):
            assert ask(guarded) == ([7], []), "what a slow part found is used"
        guarded.part.takes = 0.001
        assert ask(guarded) == ([7], [])
    assert guarded.counts.slow == 10 * (IN_A_ROW - 1)
    assert guarded.counts.left_out == 0
