"""Passes of the garbage collector: how many objects one of them looks at."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.streams.garbage import OLDER, SMALL, SmallSteps, set_up, settle

#: Objects that come and go between two steps, and what else is made meanwhile.
CHANGED, OTHERS = 500, 300


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    was = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.set_threshold(*was)
    gc.unfreeze()


def young() -> int:
    return len(gc.get_objects(generation=0))


def replace(held: list[list[int]], first: int) -> None:
    """Let new objects take the place of old ones: as many are freed as are made."""
    for at in range(first, first + CHANGED):
        held[at % len(held)] = [at]


@pytest.mark.parametrize("stepping", [False, True])
def test_objects_that_replace_old_ones_do_not_gather(stepping: bool) -> None:
    held = [[n] for n in range(20_000)]
    gc.collect()
    set_up(small=True)
    steps, most = SmallSteps(), 0
    for n in range(2 * OLDER):
        replace(held, CHANGED * n)
        most = max(most, young())
        if stepping:
            steps.ring(0.0)
    # Without steps they gather, because the collector counts the difference: this test can fail.
    assert (most <= CHANGED + OTHERS) is stepping


def test_long_passes_are_followed_by_a_rest() -> None:
    held = [[n] for n in range(300_000)]
    gc.collect()
    set_up(small=False)
    seldom, always = SmallSteps(0.001, share=0.001), SmallSteps(0.001)
    for n in range(20):
        held[20_000 * (n % 10) : 20_000 * (n % 10) + 20_000] = [[m] for m in range(20_000)]
        seldom.ring(0.0)
    assert seldom.steps == 1, "a pass takes over 20 us: at a thousandth, 20 of these rings are too early"
    for _ in range(20):
        always.ring(0.0)
    assert always.steps == 20


def test_what_steps_left_is_looked_at_too() -> None:
    class Ring:
        def __init__(self) -> None:
            self.me = self

    set_up(small=True)
    steps, rings = SmallSteps(), [Ring() for _ in range(5)]
    steps.ring(0.0)
    del rings  # in the older generation now, and garbage
    for _ in range(OLDER):
        steps.ring(0.0)
    assert not [one for one in gc.get_objects() if type(one) is Ring]


def test_a_pass_begins_by_itself_after_few_objects() -> None:
    set_up(small=True)
    sizes = list[int]()

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            sizes.append(young())

    gc.callbacks.append(note)
    try:
        kept = [[n] for n in range(5 * SMALL[0])]
    finally:
        gc.callbacks.remove(note)
    assert len(kept) == 5 * SMALL[0]
    assert len(sizes) >= 4
    assert max(sizes) <= SMALL[0] + OTHERS


def test_objects_of_the_start_are_looked_at_by_no_pass() -> None:
    held = [[n] for n in range(1000)]
    set_up(small=False)
    frozen = gc.get_freeze_count()
    assert frozen >= len(held)
    set_up(small=False)
    assert gc.get_freeze_count() == frozen, "a second call would keep what is garbage by then"


def test_what_a_worker_has_read_is_looked_at_by_no_pass() -> None:
    class Ring:
        def __init__(self) -> None:
            self.me = self

    set_up(small=True)
    held = [[n] for n in range(1000)]
    Ring()  # garbage that is never let go once it is not looked at
    settle()
    frozen = gc.get_freeze_count()
    assert frozen >= len(held)
    assert len(gc.get_objects(generation=2)) < OTHERS
    gc.unfreeze()
    assert not [one for one in gc.get_objects() if type(one) is Ring]


def test_where_nobody_waits_every_pass_looks_at_what_was_read() -> None:
    set_up(small=False)
    frozen = gc.get_freeze_count()
    held = [[n] for n in range(1000)]
    settle()
    assert gc.get_freeze_count() == frozen
    assert len(held) == 1000


def test_it_steps_while_it_runs() -> None:
    async def run() -> int:
        steps = SmallSteps(every_s=0.001)
        await steps.start()
        try:
            for _ in range(1000):
                if steps.steps >= 3:
                    break
                await asyncio.sleep(0.001)
        finally:
            await steps.stop()
        return steps.steps

    assert asyncio.run(run()) >= 3
