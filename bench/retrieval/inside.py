"""Looks into a serving worker: stalls of its event loop, and the time of the candidate stage.

A source that proposes nothing (``HEADRACE_PLUGINS=retrieval.inside:Inside``). Every second a thread writes
the figures to the file ``BENCH_INSIDE``. What comes before the file
``BENCH_INSIDE_FROM`` exists does not count.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.serving.catalog import Catalog
from headrace.serving.index.hot import HotIndex
from headrace.serving.mirrors import Mirrors
from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.pipeline import Pipeline, Pool
from headrace.serving.pipeline.query import Query
from headrace.serving.recommender import Recommender
from headrace.serving.requests.read import RequestReader

U64 = npt.NDArray[np.uint64]

#: The loop is asked to come back after this time, again and again, s.
TICK_S = 0.002
_gather = Pipeline.gather
#: What the loop does at one stretch.
PIECES: tuple[tuple[type, str], ...] = (
    (Recommender, "answer"), (Recommender, "popular"), (Recommender, "tick"), (HotIndex, "put_many"),
    (HotIndex, "_take_merged"), (HotIndex, "_begin_merge"), (HotIndex, "drop_many"), (Catalog, "put_many"),
    (Catalog, "drop_many"), (Mirrors, "item_features"), (Mirrors, "item_countries"), (RequestReader, "read"),
)  # fmt: skip


class Figures:
    """What was measured: times in s, since ``begin``."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.held: list[float] = []
        self.stage: list[float] = []
        self.stage_cpu: list[float] = []
        self.sizes: list[int] = []
        self.pieces: dict[str, list[float]] = {}

    def summary(self) -> dict[str, Any]:
        """Return percentiles in ms."""
        out: dict[str, Any] = {"candidates": float(np.mean(self.sizes)) if self.sizes else None}
        for name in ("late", "held", "stage", "stage_cpu"):
            times = np.array(getattr(self, name)[:]) * 1000
            if len(times):
                p50, p99 = np.percentile(times, [50, 99])
                out[name] = {"n": len(times), "p50": p50, "p99": p99, "max": times.max()}
        out["pieces"] = {
            name: {"n": len(cpu), "max": 1000 * max(cpu), "sum": 1000 * sum(cpu)}
            for name, cpu in list(self.pieces.items())
            if cpu
        }
        return out


FIGURES = Figures()


def timed(pipeline: Pipeline, query: Query) -> Pool:
    """Gather candidates, and note how long that took."""
    wall, cpu = time.perf_counter(), time.thread_time()
    pool = _gather(pipeline, query)
    FIGURES.stage_cpu.append(time.thread_time() - cpu)
    FIGURES.stage.append(time.perf_counter() - wall)
    FIGURES.sizes.append(len(pool.candidates))
    return pool


def noted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that also notes its CPU time under a name."""
    times = FIGURES.pieces.setdefault(name, [])

    def run(*args: Any, **kwargs: Any) -> Any:
        cpu = time.thread_time()
        try:
            return work(*args, **kwargs)
        finally:
            times.append(time.thread_time() - cpu)

    return run


class Collections:
    """Notes the CPU time of every pass of the garbage collector, as ``gc`` and the generation."""

    def __init__(self) -> None:
        self._cpu = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._cpu = time.thread_time()
        else:
            spent = time.thread_time() - self._cpu
            FIGURES.pieces.setdefault(f"gc {info['generation']}", []).append(spent)


class Clock:
    """Asks the loop to come back, again and again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wait()

    def _wait(self) -> None:
        self._due, self._cpu = self._loop.time() + TICK_S, time.thread_time()
        self._loop.call_at(self._due, self._back)

    def _back(self) -> None:
        FIGURES.late.append(max(0.0, self._loop.time() - self._due))
        FIGURES.held.append(time.thread_time() - self._cpu)
        self._wait()


class Inside(Source):
    """Begins to measure with the first request; proposes nothing."""

    name = "inside"
    size = 1
    clock: Clock | None = None

    def propose(self, query: Query, k: int) -> Sequence[U64]:
        """Return no list."""
        if self.clock is None:
            Pipeline.gather = timed  # type: ignore[method-assign]
            for owner, name in PIECES:
                setattr(owner, name, noted(f"{owner.__name__}.{name}", getattr(owner, name)))
            self.clock = Clock(asyncio.get_running_loop())
            Collections()
            threading.Thread(target=write, daemon=True).start()
        return []


def write() -> None:
    """Write the figures every second."""
    path, begin = Path(os.environ["BENCH_INSIDE"]), Path(os.environ["BENCH_INSIDE_FROM"])
    while not begin.exists():
        time.sleep(0.1)
    f = FIGURES
    for times in (f.late, f.held, f.stage, f.stage_cpu, f.sizes, *list(f.pieces.values())):
        times.clear()
    while True:
        time.sleep(1)
        path.with_suffix(".new").write_text(json.dumps(FIGURES.summary()))
        path.with_suffix(".new").replace(path)
