"""Lets the demo's audience visit an installation in simulated time."""

from __future__ import annotations

import heapq
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.demo.accelerated import figures
from headrace.demo.accelerated.explain import Explain
from headrace.demo.accelerated.installation import Installation
from headrace.demo.simulation.simulator import Simulator, Visit
from headrace.demo.simulation.tally import Tally
from headrace.demo.simulation.world import WorldSpec
from headrace.models.learning.objectives import OBJECTIVES, figure_name
from headrace.serving.answering import Answer
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import MINUTE_MS, Settings

#: Time of the start, ms since the epoch: a run can be repeated.
START_MS = 1_700_000_000_000
#: From one step to the next, ms. Events reach the rows at the next step.
STEP_MS = 50
#: Of so many lists, one is taken apart.
EXPLAINED = 4
#: New items come this often, ms.
ITEMS_MS = 1000


@dataclass(frozen=True, slots=True)
class Run:
    """What is simulated.

    Attributes
    ----------
    minutes
        Simulated time.
    world
        The audience and the catalogue.
    off
        The parts that are off, see ``installation.PARTS``.
    judged
        One list of so many is compared with the best possible one.
    """

    minutes: float = 7.0
    world: WorldSpec = field(default_factory=WorldSpec)
    off: frozenset[str] = frozenset()
    judged: int = 1
    explain: bool = False


class Accelerated:
    """One run: an audience, and the installation that it visits.

    Parameters
    ----------
    settings
        The settings of the installation.
    run
        What is simulated.
    folder
        Folder of the Parquet log.
    """

    def __init__(self, settings: Settings, run: Run, folder: Path) -> None:
        self.run, self.end = run, START_MS + int(run.minutes * MINUTE_MS)
        self.simulator = Simulator(run.world, START_MS)
        self.installation = Installation(settings, folder, run.off)
        self.aucs: list[tuple[int, float]] = []  # ms, AUC of the online model
        self._due: list[tuple[int, int, Event]] = []  # heap by time
        self._order = self._shown = self._answered = 0
        self.explain = Explain(self.installation.recommender, self.simulator) if run.explain else None

    def begin(self) -> None:
        """Publish the world and the past of the known users; open the first sessions."""
        sim, own = self.simulator, self.installation
        own.put(sim.starting_items(), START_MS)
        own.profiles(sim.profiles(), START_MS)
        past = sim.past()
        for first in range(0, len(past), 500):
            own.take(past[first : first + 500])
        own.start(START_MS)
        sim.begin(START_MS)

    def step(self, now: int) -> None:
        """Let everything happen that is due at ``now`` (ms)."""
        own = self.installation
        happened = []
        while self._due and self._due[0][0] <= now:
            happened.append(heapq.heappop(self._due)[2])
        own.take(happened)
        if not now % ITEMS_MS:
            own.put(self.simulator.new_items(now), now)
            self.aucs.append((now, own.learning.quality()["auc"]))
        own.advance(now)
        for visit in self.simulator.visits(now):
            self._visit(visit, now)

    def _visit(self, visit: Visit, now: int) -> None:
        if visit.control:
            self._look(visit, self.simulator.popular(visit, now), now)
        else:
            answer = self.installation.answer(visit.request, now)
            shown = answer.impression
            if shown is not None:
                self.installation.note(shown)
                self._explain(visit, answer, now)
                self._look(visit, shown.item_ids, now)
        self.simulator.go_on(visit, now)

    def _explain(self, visit: Visit, answer: Answer, now: int) -> None:
        self._answered += 1
        if self.explain is not None and answer.ranked is not None and self._answered % EXPLAINED == 0:
            self.explain.add(visit, answer.ranked, [i.item_id for i in answer.reply.items], now)

    def _look(self, visit: Visit, item_ids: list[str], now: int) -> None:
        if not item_ids:
            return
        self._shown += 1
        if self._shown % self.run.judged == 0:
            self.simulator.judge(visit, item_ids, now)
        for event in self.simulator.look(visit, item_ids, now):
            self._order += 1
            heapq.heappush(self._due, (event.ts, self._order, event))


def simulate(
    settings: Settings, run: Run, progress: Callable[[float, Tally], None] | None = None
) -> dict[str, Any]:
    """Let the audience visit for the whole time; return the figures.

    Parameters
    ----------
    settings
        The settings of the installation; the broker and Redis are not used.
    run
        What is simulated.
    progress
        Called after every ten simulated seconds with the seconds since the start, and the tally so far.
    """
    began, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="headrace-eval-") as folder:
        world = Accelerated(settings, run, Path(folder))
        world.begin()
        for now in range(START_MS + STEP_MS, world.end + 1, STEP_MS):
            world.step(now)
            if progress is not None and not (now - START_MS) % 10_000:
                progress((now - START_MS) / 1000, world.simulator.tally)
        world.installation.recommender.close()
    tally, learning = world.simulator.tally, world.installation.learning
    series = figures.over_time(tally, world.aucs, START_MS, world.end)
    used = "online" not in run.off
    if not used:
        series["online_auc"] = []
    out = figures.whole(tally, START_MS, world.end) | figures.after_shift(series, run.world.shift_at_s)
    return out | {
        "off": sorted(run.off),
        **_of_online(learning.quality() if used else {}),
        "trainings": learning.trainings,
        "examples": learning.logged,
        "explain": world.explain.figures() if world.explain is not None else {},
        "over_time": series,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
    }


def _of_online(quality: dict[str, float]) -> dict[str, float | None]:
    """Return AUC and calibration of the online model by objective; None without it."""
    out: dict[str, float | None] = {}
    for objective in OBJECTIVES:
        for what in ("auc", "calibration"):
            name = figure_name(objective, what)
            out[f"online_{name}"] = round(quality[name], 4) if quality else None
    return out
