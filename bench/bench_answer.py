"""CPU of an answer alone: a serving stage in this process, without a broker, split by stage.

    python bench/bench_answer.py [--items N] [--slots N] [--rounds N] [--profile FILE]    # prints JSON

A catalogue of ``items``, 20,000 of them with events; warm users with 30 clicks each, what they were shown and
the neighbours of what they clicked; an online model and a ranker with three objectives. Requests of different
users wait together in batches of 1, 4 and 16. Every answer is a list of ``slots`` slots from about 500
candidates, encoded and handed over, with its impression. ``popular`` is the list of a request that came too
late for a ranked one.

``cpu_ms``: CPU time of the process for each answer, the median of the rounds, which take turns; ``stages_ms``
splits it. ``longest_ms``: the largest CPU time between two moments at which the loop could do something else.
``pace_ms`` says how fast the machine was before and after (``machine_pace.py``).
``digest`` is that of all ranked replies and impressions: what only makes them cheaper does not change it.
``--profile`` writes what ``cProfile`` sees of batches of 16. One thread for linear algebra, as workers have
(``OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1``).
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import hashlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

from answering.world import Request, Taker, batch, requests, world
from machine_pace import pace_ms

from headrace.agents.recommend import ServeStage
from headrace.streams import garbage

BATCHES = (1, 4, 16)


class Held:
    """Notes the CPU time of the loop between two moments at which another task runs."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        """Run until cancelled."""
        while True:
            before = time.process_time()
            await asyncio.sleep(0)
            self.longest = max(self.longest, time.process_time() - before)


async def answered(stage: ServeStage, todo: list[Request], size: int) -> tuple[float, float]:
    """Answer requests in batches; return the CPU time, s, and the longest that the loop was held."""
    held = Held()
    watching = asyncio.create_task(held.watch())
    began, ends = time.process_time(), []
    for start in range(0, len(todo), size):
        part = batch(todo[start : start + size])
        ends.append(asyncio.create_task(stage.finish(part, await stage.answer(part))))
    watching.cancel()  # what is written behind waits for more: it would count the waiting
    await asyncio.gather(*ends)
    return time.process_time() - began, held.longest


async def bench(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the batch sizes in turns."""
    stage, taker = await world(args.items, args.users)
    stage.recommender.data.stages.clock = time.process_time
    gc.collect()
    garbage.set_up(small=True)  # as a worker does
    await answered(stage, requests(64, args.users), 16)
    if args.profile:
        with cProfile.Profile(time.process_time) as profile:
            await answered(stage, requests(args.answers, args.users, late=args.popular, size=args.slots), 16)
        profile.dump_stats(args.profile)
    ways = {**{str(size): (size, False) for size in BATCHES}, "popular": (16, True)}
    measured, pace = {name: Measured() for name in ways}, pace_ms()
    for number in range(args.rounds):
        for name, (size, late) in ways.items():
            first = number * args.answers
            todo = requests(args.answers, args.users, late=late, size=args.slots, first=first)
            await measured[name].round(stage, todo, size)
    return {
        "items": args.items,
        "users": args.users,
        "answers": args.answers,
        "pace_ms": [pace, pace_ms()],
        "slots": args.slots,
        "reply_bytes": round(statistics.mean(map(len, taker.replies[-args.answers :]))),
        "impression_bytes": round(statistics.mean(map(len, taker.impressions))),
        "cpu_ms": {name: round(statistics.median(m.times), 3) for name, m in measured.items()},
        "longest_ms": {name: round(m.longest, 2) for name, m in measured.items()},
        "stages_ms": {name: m.split() for name, m in measured.items()},
        "parts_us": _parts(stage),
        "digest": _digest(taker),
    }


class Measured:
    """What one way of asking costs, ms."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.longest = 0.0
        self._stages: dict[str, list[float]] = {}

    async def round(self, stage: ServeStage, todo: list[Request], size: int) -> None:
        """Answer some requests."""
        stages = stage.recommender.data.stages
        before = {name: times.seconds for name, times in stages.times.items()}
        took, held = await answered(stage, todo, size)
        self.times.append(1000 * took / len(todo))
        self.longest = max(self.longest, 1000 * held)
        for name, times in stages.times.items():
            self._stages.setdefault(name, []).append(1000 * (times.seconds - before[name]) / len(todo))

    def split(self) -> dict[str, float]:
        """Return the median cost of each stage, ms for each answer."""
        return {name: round(statistics.median(each), 3) for name, each in self._stages.items() if any(each)}


def _digest(taker: Taker) -> str:
    """Return a hash of all ranked lists and their impressions."""
    ranked = [reply for reply in taker.replies if b'"deadline"' not in reply]
    return hashlib.sha256(b"".join(ranked + taker.impressions)).hexdigest()[:16]


def _parts(stage: ServeStage) -> dict[str, float]:
    """Return the time of a call of every part, microseconds of a clock on the wall."""
    counts = stage.recommender.pipeline.counts()
    return {
        label: round(1e6 * one.seconds / one.calls, 1)
        for label, one in sorted(counts.items(), key=lambda pair: -pair[1].seconds)
        if one.calls
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--answers", type=int, default=160)
    parser.add_argument("--slots", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--popular", action="store_true", help="profile popular lists")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    text = json.dumps(asyncio.run(bench(args)), indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
