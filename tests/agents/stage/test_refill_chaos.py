"""After any failures of the store and the worker, in any order, the copy is correct in the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import pytest
from stage_rows import BLANK, SlowStore, Stage, StoppedClock, rows_of

from headrace.streams.errors import UnavailableError


class Chaos:
    """Random failures of a stage and its store, while its feed catches up."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.store = SlowStore(self.rng)
        self.stage = Stage(self.store, clock=StoppedClock())  # nothing waits: a seed is always the same run
        self.version = 0
        self.saved = dict(self.store._rows), dict(self.store._marks)
        calm = self.rng.choice([1, 3, 10])
        self.steps: list[tuple[float, Callable[[], Awaitable[None] | None]]] = [
            (35, self.change),
            (30, lambda: self.stage.online()),
            (8, self.begin_durable),
            (12, lambda: self.stage.save()),
            (4, lambda: self.stage.forget(self.some())),
            (3, lambda: self.stage.expire(self.some())),
            (8, lambda: self.stage.evict(self.some(30))),
            (3 / calm, self.store.lose),
            (6 / calm, self.fail),
            (3, self.save),
            (3 / calm, self.older),
            (3 / calm, self.die),
        ]
        self.helper = asyncio.create_task(self.catch_up())

    async def catch_up(self) -> None:
        while True:
            await asyncio.sleep(0)
            feed = self.stage.feed
            if self.rng.random() < 0.2:
                await feed.look()
            if feed.parts[3].owed and not feed._away:
                with contextlib.suppress(UnavailableError):
                    await feed.catch_up(3)

    def some(self, at_most: int = 5) -> list[int]:
        return self.rng.sample(range(40), self.rng.randint(1, at_most))

    def change(self) -> None:
        self.version += 1
        self.stage.change(rows_of(self.some(), self.version))

    def fail(self) -> None:
        self.store.away = not self.store.away

    def save(self) -> None:
        self.saved = dict(self.store._rows), dict(self.store._marks)

    def older(self) -> None:
        self.store._rows, self.store._marks = map(dict, self.saved)  # type: ignore[assignment]
        self.store.restart()

    async def die(self) -> None:
        """The worker dies; events that are not durable are delivered again to the next one."""
        self.helper.cancel()
        await asyncio.wait({self.helper})
        again = {
            key: self.stage.memory.get(key) for key in self.stage.dirty | (self.stage.taken or {}).keys()
        }
        self.stage = Stage(self.store, self.stage.log, clock=StoppedClock())
        self.stage.change({key: row or b"what it was" for key, row in again.items()})
        self.stage.forget(key for key, row in again.items() if row == BLANK)
        self.stage.expire(key for key, row in again.items() if row is None)
        self.helper = asyncio.create_task(self.catch_up())

    async def begin_durable(self) -> None:
        """Take the changes for the changelog and, at the same time, those for the store."""
        self.stage.take()
        await self.stage.online()

    async def step(self) -> None:
        weights, moves = zip(*self.steps, strict=True)
        (move,) = self.rng.choices(moves, weights)
        waiting = move()
        if waiting is not None:
            await waiting
        for _ in range(self.rng.randrange(6)):
            await asyncio.sleep(0)

    async def calm_down(self) -> None:
        self.store.away = False
        stage = self.stage
        while stage.changed or stage.gone or stage.dirty or stage.taken is not None:
            await stage.online()
            stage.durable()
        await stage.feed.look()
        for _ in range(5000):
            if stage.feed.caught_up:
                break
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(100))
async def test_whatever_happens_the_store_ends_up_right(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 2:
        monkeypatch.setattr(
            "headrace.agents.stage.refill.LOOK_S", 0.0
        )  # marks move on with every piece that is read
    chaos = Chaos(seed)
    for _ in range(10):
        for _ in range(chaos.rng.randint(1, 40)):
            await chaos.step()
            assert not chaos.helper.done(), chaos.helper
        await chaos.calm_down()
        assert chaos.stage.feed.caught_up
        assert chaos.stage.shown() == chaos.stage.truth()
    chaos.helper.cancel()
