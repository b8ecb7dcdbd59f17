"""The alerts are silent in an hour of simulated time; then parts break, and they say so.

The audience of the demo visits an installation in simulated time. What a serving worker measures of its
answers is read every five simulated seconds, as Prometheus would, and promtool evaluates the rules over it.
What a broker, Redis and processes do: ``tests/monitor/test_alerts_whole.py``.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alert_hours import EVERY_S, Round, alerts, asked, promtool_is_there, read
from prometheus_client import generate_latest

from headrace.demo.accelerated.run import START_MS, STEP_MS, Accelerated, Run
from headrace.demo.simulation.world import WorldSpec
from headrace.demo.stack import DEMO_SETTINGS
from headrace.models.features.spec import SPEC
from headrace.serving import measured
from headrace.serving.answering import Answer
from headrace.serving.index import hot
from headrace.serving.index.recall import RecallProbe
from headrace.serving.measured import Measured
from headrace.serving.skew import SkewProbe
from headrace.serving.sources.hot import Hot
from headrace.serving.store.freshness import Freshness
from headrace.serving.store.memory import MemoryStore
from headrace.streams.messages.schemas import RecRequest
from headrace.streams.metrics import Metrics
from headrace.streams.settings import DAY_MS, MINUTE_MS, Settings

#: A source may take as long as it likes: a busy machine is no trouble of the installation.
CHANGED = {"train_every_s": 300.0, "part_ms": 10_000, "candidates_ms": 10_000, "metrics_port": 1}
#: The alerts whose metrics are all told here. The others ask for what a broker, Redis, a process or the time
#: of this machine does.
COVERED = {
    "HeadraceWorkerDown", "HeadraceRepliesDegraded", "HeadracePartLeftOut", "HeadraceRecallLow",
    "HeadraceIndexOld", "HeadraceSkew", "HeadraceModelOld",
}  # fmt: skip
HEALTHY, BROKEN, IDLE = 60, 12, 11  # minutes


class SimulatedTime:
    """A clock that shows the time of the run."""

    def __init__(self) -> None:
        self.now = START_MS

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def tell_time(clock: SimulatedTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the index and who measures it go by this clock."""
    for module in (hot, measured):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=time.sleep))


class Watched(Accelerated):
    """A run whose installation measures what it answers, as a serving worker does."""

    def __init__(self, settings: Settings, run: Run, folder: Path) -> None:
        super().__init__(settings, run, folder)
        self.clock, self.metrics, self.rounds = SimulatedTime(), Metrics(), list[Round]()
        recommender = self.installation.recommender
        freshness = Freshness(MemoryStore(self.clock), {}, self.clock)
        self.measured = Measured(self.metrics, recommender, freshness, settings, self.clock)
        self.measured.close()
        self.measured.recall = RecallProbe(10, 1.0, self.clock.monotonic)
        self.measured.skew = SkewProbe(10, 1.0, self.clock.monotonic)
        self._answer, self.installation.answer = self.installation.answer, self.answer
        self._versions: dict[bytes, str] = {}

    def answer(self, request: RecRequest, now: int) -> Answer:
        """Answer a request, and measure that."""
        answer = self._answer(request, now)
        self.measured.replied([(request, answer.reply)])
        if answer.impression is not None:
            self.measured.logged(answer, answer.impression)
            self._settle()  # before rows change: here they are in this process
        return answer

    def minutes(self, count: int) -> None:
        """Go on for so many minutes; read the metrics every few seconds."""
        for _ in range(count * MINUTE_MS // STEP_MS):
            self.clock.now += STEP_MS
            self.step(self.clock.now)
            if not (self.clock.now - START_MS) % (1000 * EVERY_S):
                self.look()

    def look(self) -> None:
        """Read the metrics; bring the index up to date before, as a worker does with every request."""
        self.installation.recommender.hot.expire(self.clock.now)
        models = self.installation.recommender.data.models
        for name, model in ((b"ranker", models.ranker), (b"online", models.online)):
            if model is not None and self._versions.get(name) != model.version:
                self._versions[name], models.published[name] = model.version, self.clock.now
        self._settle()
        self.rounds.append({"simulated": read(generate_latest(self.metrics.registry).decode())})

    def _settle(self) -> None:
        for probe in (self.measured.recall, self.measured.skew):
            assert probe is not None
            probe.settle()


@pytest.mark.slow
@pytest.mark.skipif(
    not promtool_is_there(), reason="promtool is not installed (Debian: apt-get install prometheus)"
)
def test_silent_for_an_hour_until_something_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = WorldSpec(users=400, items=1500, visits_per_s=1.0, new_items_per_s=0.2)
    settings = Settings(**DEMO_SETTINGS | CHANGED)
    run = Watched(settings, Run(world=world, off=frozenset({"retraining"}), judged=1_000_000), tmp_path)
    tell_time(run.clock, monkeypatch)
    run.begin()
    while run.installation.recommender.ranker is None:  # until then, every list lacks one, and is counted so
        run.minutes(1)
    run.rounds.clear()
    run.minutes(HEALTHY)
    there = {name for name, _ in run.rounds[-1]["simulated"] or {}} | {"up"}
    assert all(asked()[alert] <= there for alert in COVERED)
    assert not COVERED & alerts(run.rounds, tmp_path).keys()

    break_parts(run, monkeypatch)
    run.minutes(BROKEN)
    run.clock.now += DAY_MS  # nobody learns, nobody merges
    for _ in range(IDLE * MINUTE_MS // (1000 * EVERY_S)):
        run.clock.now += 1000 * EVERY_S
        run.look()
    said = alerts(run.rounds, tmp_path)
    assert {name for name, state in said.items() if state == "firing"} >= {
        "HeadraceRepliesDegraded", "HeadracePartLeftOut", "HeadraceRecallLow",
        "HeadraceIndexOld", "HeadraceSkew", "HeadraceModelOld",
    }  # fmt: skip


def break_parts(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source and the merges of the index fail, searches find half, a scorer writes into features."""

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Hot, "propose", broken)
    monkeypatch.setattr(hot, "Settled", broken)
    search = hot.HotIndex.search

    def half(self: Any, vector: Any, k: int, *more: Any) -> Any:
        return tuple(found[: k // 2] for found in search(self, vector, k, *more))

    monkeypatch.setattr(hot.HotIndex, "search", half)
    for scorer in run.installation.recommender.pipeline.scorers:
        monkeypatch.setattr(scorer.part, "score_for", meddling(scorer.part.score_for))


def meddling(scores: Any) -> Any:
    def score_for(features: Any, ids: Any) -> Any:
        out = scores(features, ids)
        features[:, SPEC.index("item_ctr_24h")] += 1
        return out

    return score_for
