"""The turns of bulk lists: nobody waits for more than one of them, and they take their share and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from headrace.serving.requests.turns import LOOK_S, MAX_REST_S, MIN_REST_S, QUIET_S, Turns

LIST_S = 0.004


@dataclass
class Loop:
    """An event loop with bulk lists and other work; its time passes as it is told."""

    turns: Turns
    now: float = 100.0
    cpu: float = 1.0
    queued: int = 0
    takes: float = LIST_S
    made: list[float] = field(default_factory=list)

    def work(self, seconds: float) -> None:
        """Spend CPU time."""
        self.now += seconds
        self.cpu += seconds

    def ask(self, until: float = math.inf, *, hurry: bool = False) -> float:
        """Ask for a turn once; make the list, or wait as told, at most ``until`` a time."""
        wait = self.turns.wait_s(self.now, self.cpu, self.queued, hurry=hurry)
        if wait:
            self.now = min(until, self.now + wait)
        else:
            self.made.append(self.now)
            self.work(self.takes)
            self.turns.made(self.now, self.cpu)
        return wait

    def answer(self, seconds: float) -> None:
        """Answer a request."""
        self.turns.begin(self.now)
        self.work(seconds)
        self.turns.end(self.now)


def test_no_list_is_made_while_a_request_is_answered() -> None:
    loop = Loop(Turns(1.0))
    loop.turns.begin(loop.now)
    for _ in range(100):
        assert loop.ask() == LOOK_S
    loop.turns.end(loop.now)
    assert loop.ask() == pytest.approx(QUIET_S), "the next one may be on its way"
    assert loop.ask() == 0
    assert len(loop.made) == 1


def test_two_requests_are_both_waited_for() -> None:
    loop = Loop(Turns(1.0))
    loop.turns.begin(loop.now)
    loop.turns.begin(loop.now)
    loop.turns.end(loop.now)
    assert loop.ask() == LOOK_S
    loop.turns.end(loop.now)
    loop.ask()
    assert loop.ask() == 0


def test_no_list_is_made_while_requests_are_queued() -> None:
    loop = Loop(Turns(1.0), queued=1)
    for _ in range(100):
        assert loop.ask() == LOOK_S
    loop.queued = 0
    assert loop.ask() == 0


def test_a_request_that_comes_between_two_lists_is_answered_before_the_second() -> None:
    loop = Loop(Turns(0.5))
    assert loop.ask() == 0
    came = loop.now
    loop.queued = 1
    while loop.now < came + 1:
        assert loop.ask() > 0
    loop.queued = 0
    loop.answer(0.01)
    answered = loop.now
    while loop.ask():
        pass
    assert loop.made[1] >= answered + QUIET_S


def test_after_each_list_there_is_a_rest_in_which_a_request_can_come_in() -> None:
    loop = Loop(Turns(1.0))
    while len(loop.made) < 50:
        loop.ask()
    rests = [b - a - LIST_S for a, b in zip(loop.made, loop.made[1:], strict=False)]
    assert min(rests) >= MIN_REST_S * 0.999


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75])
def test_lists_take_their_share_of_an_idle_worker(share: float) -> None:
    loop = Loop(Turns(share))
    since = loop.now
    while loop.now < since + 30:
        loop.ask()
    assert len(loop.made) * LIST_S / (loop.now - since) == pytest.approx(share, rel=0.1)
    assert loop.turns.load == pytest.approx(0, abs=1e-6), "bulk lists are not load"


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_of_a_busy_worker_they_take_their_share_of_what_is_free(load: float) -> None:
    loop, share = Loop(Turns(0.5)), 0.5
    since, answering = loop.now, 0.0
    while loop.now < since + 60:
        if answering < load * (loop.now - since):
            loop.answer(0.003)
            answering += 0.003
        else:
            loop.ask()
    assert loop.turns.load == pytest.approx(load, abs=0.1)
    assert loop.turns.share == pytest.approx(share * (1 - load), abs=0.05)
    assert len(loop.made) * LIST_S / (loop.now - since) < share * (1 - load) + 0.05


def test_time_that_a_request_waits_for_others_is_load_too() -> None:
    loop = Loop(Turns(0.5))
    until = loop.now + 20
    while loop.now < until:
        loop.turns.begin(loop.now)
        loop.now += 0.03  # it waits for the store, or the machine is busy: no CPU time
        loop.turns.end(loop.now)
        free = loop.now + 0.01
        while loop.now < free:
            loop.ask(free)
    assert loop.turns.load == pytest.approx(0.75, abs=0.06)
    assert loop.made, "there is time for some lists"


def test_lists_that_take_long_because_the_machine_is_busy_are_followed_by_longer_rests() -> None:
    def share(stretched: float) -> float:
        loop = Loop(Turns(0.5))
        since = loop.now
        while loop.now < since + 10:
            if loop.turns.wait_s(loop.now, loop.cpu):
                loop.now += 0.0005
                continue
            loop.now += stretched * LIST_S
            loop.cpu += LIST_S
            loop.made.append(loop.now)
            loop.turns.made(loop.now, loop.cpu)
        return len(loop.made) * LIST_S / (loop.now - since)

    assert share(4.0) == pytest.approx(share(1.0) / 4, rel=0.15)


def test_the_load_is_forgotten() -> None:
    loop = Loop(Turns(0.5))
    for _ in range(1000):
        loop.answer(0.004)
        loop.ask()
    assert loop.turns.load > 0.5
    until = loop.now + 10
    while loop.now < until:
        loop.ask()
    assert loop.turns.share == pytest.approx(0.5, abs=0.01)


def test_a_long_list_is_followed_by_a_bounded_rest() -> None:
    loop = Loop(Turns(0.5), takes=60)
    assert loop.ask() == 0
    assert loop.ask() == pytest.approx(MAX_REST_S)


def test_a_worker_that_stops_does_not_rest_and_still_answers_the_others_first() -> None:
    loop = Loop(Turns(0.01))
    for _ in range(10):
        assert loop.ask(hurry=True) == 0
    loop.turns.begin(loop.now)
    assert loop.ask(hurry=True) == LOOK_S
    loop.turns.end(loop.now)
    assert loop.ask(hurry=True) == 0
