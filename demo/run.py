"""The whole loop on one machine, for a minute: servers, workers, a simulated audience, figures at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvloop
from aiokafka.errors import KafkaError
from rich.console import Console, RenderableType
from rich.live import Live

from headrace.console import screen
from headrace.demo import page as demo_page
from headrace.demo.simulator import Simulator
from headrace.demo.stack import Stack
from headrace.demo.traffic import Traffic, now_ms
from headrace.demo.world import WorldSpec
from headrace.models.learning import artefact, online, ranker
from headrace.serving.requests.client import RecClient
from headrace.streams.errors import ArtefactError, HeadraceError, UnavailableError
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.dead_letters import read_dead_letter
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from headrace.streams.topics.tail import Tail

#: Serving is alone, so that a backlog of events never delays a reply.
WORKERS = ("serve", "ingest,aggregate,learn,log,trainer")
#: Everything at the pace of a demo: outcomes are waited for, logged, learnt and published within seconds.
QUICK: dict[str, Any] = {
    "partitions": 2,
    "outcome_wait_ms": 3000,
    "log_flush_s": 2.0,
    "train_every_s": 8.0,
    "flush_every_ms": 300,  # the embedded broker keeps every version of a row: write fewer
    "train_min_rows": 1500,
    "train_min_clicks": 30,
    "publish_every_s": 2.0,
    "epsilon": 0.05,
    "redis_read_ms": 250,  # everything shares two cores: slow is not away
}
FIRST_REPLY_TIMEOUT_S = 60.0
LAG_EVERY_S = 2.0
REDRAW_S = 0.5
#: What was told to end may take this long.
CANCEL_S = 4.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the user may choose."""

    seconds: float = 60.0  # from the start of the stack to the end of the traffic
    world: WorldSpec = field(default_factory=WorldSpec)
    plain: bool = False
    keep: bool = False  # the temporary folder


@dataclass(slots=True)
class DemoResult:
    """How the demo went. ``problem`` is empty when the loop really worked."""

    figures: dict[str, Any]
    problem: str = ""
    details: str = ""  # the last words of a worker that failed
    signal: int = 0  # that ended it early
    example: tuple[str, RecReply, dict[str, str]] | None = None  # whose list, the list, titles


@dataclass(slots=True)
class Watched:
    """What is learnt by watching topics from outside."""

    rankers: int = 0
    ranker_metrics: dict[str, float] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)  # of the online model
    dead_letters: int = 0
    first_letter: str = ""
    lag: list[screen.AgentLag] = field(default_factory=list)
    max_lag_s: dict[str, float] = field(default_factory=dict)

    def on_models(self, batch: Any) -> None:
        """Note what models are published."""
        for record in batch:
            try:
                document = artefact.decode(record.value or b"")
            except ArtefactError:
                continue
            metrics = document.get("metrics", {})
            if document["name"] == ranker.NAME:
                self.rankers += 1
                self.ranker_metrics = metrics
            elif document["name"] == online.NAME:
                self.quality = metrics

    def on_dead_letters(self, batch: Any) -> None:
        """Count dead letters."""
        self.dead_letters += len(batch)
        for record in batch:
            letter = read_dead_letter(record)
            self.first_letter = self.first_letter or (
                f"{letter.agent} on {letter.topic}: {letter.reason} {letter.field} {letter.detail}"
            )

    def on_lag(self, rows: list[screen.AgentLag]) -> None:
        """Take over a look at the groups."""
        self.lag = rows
        for row in rows:
            if row.seconds is not None:
                self.max_lag_s[row.agent] = max(row.seconds, self.max_lag_s.get(row.agent, 0.0))


class Demo:
    """One run on a started stack."""

    def __init__(self, options: DemoOptions, stack: Stack, out: Console, started: float) -> None:
        self._options, self._stack, self._out = options, stack, out
        self._started = started  # monotonic
        self._until = started + options.seconds
        self._settings = stack.settings(**QUICK)
        self._watched = Watched()
        self._traffic: Traffic | None = None
        self._phase = "starting"
        self._live_at = 0.0  # monotonic; when the first reply had come
        self._live_ms = self._end_ms = 0
        self._signal = 0
        self._abort = asyncio.Event()

    async def run(self) -> DemoResult:
        """Run until the time is over, something fails, or a signal comes."""
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sig, self._on_signal, sig)
        example = None
        problem = details = ""
        work = asyncio.create_task(self._work())
        watch: list[asyncio.Task[Any]] = [
            asyncio.create_task(c) for c in (self._guard(), self._abort.wait(), self._show())
        ]
        try:
            await asyncio.wait({work, *watch}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                example = work.result()
            for task in watch:
                if task.done():
                    task.result()
        except (HeadraceError, KafkaError, OSError) as exc:
            problem = str(exc)
            details = exc.__notes__[0] if hasattr(exc, "__notes__") else ""
        finally:
            # Connections cut off in the middle complain to the loop; what matters is raised.
            loop.set_exception_handler(lambda _loop, _context: None)
            await _cancel({work, *watch})
        figures = self._figures()
        problem = problem or ("" if self._signal else self._verdict(figures))
        figures |= {"ok": not problem and not self._signal, "problem": problem}
        return DemoResult(figures, problem, details, self._signal, example)

    def _on_signal(self, sig: int) -> None:
        self._signal = self._signal or sig
        self._abort.set()

    async def _work(self) -> tuple[str, RecReply, dict[str, str]] | None:
        settings, topics = self._settings, Topics(self._settings)
        await create_topics(settings)
        for roles in WORKERS:
            self._stack.start_worker(roles, settings)
        self._phase = "publishing the catalogue"
        simulator = Simulator(self._options.world, now_ms())
        async with contextlib.AsyncExitStack() as exits:
            sender = await _service(exits, BatchSender(settings))
            client = await exits.enter_async_context(RecClient(settings, "demo"))
            await _service(exits, Tail(settings, topics.models, self._watched.on_models, name="models"))
            letters = Tail(settings, topics.dead_letters, self._watched.on_dead_letters, name="dead letters")
            await _service(exits, letters)
            traffic = self._traffic = Traffic(simulator, sender, client, topics)
            await traffic.publish_world()
            await traffic.publish_past()
            self._phase = "waiting for the first reply"
            await traffic.first_reply(FIRST_REPLY_TIMEOUT_S)
            self._live_at, self._live_ms = time.monotonic(), now_ms()
            self._phase = "running"
            await self._loop(traffic)
            return await self._example(traffic)

    async def _loop(self, traffic: Traffic) -> None:
        over = asyncio.Event()
        beside = [asyncio.create_task(c) for c in (traffic.flushes(over), self._poll_lag(over))]
        visits = asyncio.create_task(traffic.visits(self._until))
        try:
            await asyncio.wait({visits, *beside}, return_when=asyncio.FIRST_COMPLETED)
            self._end_ms = now_ms()
            self._phase = "finishing"
            over.set()
            await asyncio.wait(beside, timeout=5.0)  # cut off in the middle they would leave connections open
            for task in (visits, *beside):
                if task.done():
                    task.result()
        finally:
            for task in (visits, *beside):
                task.cancel()
            await asyncio.gather(visits, *beside, return_exceptions=True)
        await traffic.settle()

    async def _example(self, traffic: Traffic) -> tuple[str, RecReply, dict[str, str]] | None:
        """Return the list of somebody who has been here often, with reasons."""
        user = traffic.simulator.regular()
        request = RecRequest(
            "example", traffic.simulator.audience.ids[user], "home", n=10, deadline_ms=5000, explain=True
        )
        reply = await traffic.ask(request)
        return (traffic.simulator.describe(user), reply, traffic.titles) if reply is not None else None

    async def _guard(self) -> None:
        while True:
            if (worker := self._stack.dead()) is not None:
                error = HeadraceError(f"worker {worker.roles} ended with code {worker.process.returncode}")
                error.add_note(worker.last_words())
                raise error
            await asyncio.sleep(0.3)

    async def _poll_lag(self, over: asyncio.Event) -> None:
        while not over.is_set():
            with contextlib.suppress(UnavailableError):  # a look that failed; the next one follows
                self._watched.on_lag(screen.by_agent(await lag(self._settings)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), LAG_EVERY_S)

    async def _show(self) -> None:
        if self._options.plain or not self._out.is_terminal:
            while True:
                await asyncio.sleep(screen.PLAIN_EVERY_S)
                self._out.print(demo_page.line(self._view()), soft_wrap=True, markup=False)
        with Live(self._page(), console=self._out, auto_refresh=False) as live:
            try:
                while True:
                    live.update(self._page(), refresh=True)
                    await asyncio.sleep(REDRAW_S)
            finally:
                live.update(self._page(), refresh=True)

    def _page(self) -> RenderableType:
        return demo_page.render(self._view(), self._out.width)

    # --- figures ---

    def _view(self) -> demo_page.DemoView:
        at, watched = time.monotonic(), self._watched
        view = demo_page.DemoView(
            phase=self._phase,
            elapsed_s=at - self._started,
            seconds=self._options.seconds,
            lag=watched.lag,
            rankers=watched.rankers,
            auc=watched.quality.get("auc"),
            learned=int(watched.quality.get("examples", 0)),
            dead_letters=watched.dead_letters,
        )
        traffic = self._traffic
        if traffic is None:
            return view
        view.events, view.events_per_s = traffic.events.total, traffic.events.rate(at)
        view.requests, view.replies, view.errors = traffic.requests, traffic.replies, traffic.errors
        view.replies_per_s = traffic.answered.rate(at)
        view.p50_ms, view.p99_ms = traffic.latencies.recent(at)
        view.ranker, view.ranked_share = traffic.ranker, traffic.ranked_share(at)
        view.pace = traffic.simulator.pace
        view.users, view.items = len(traffic.simulator.audience.ids), traffic.simulator.shelf.size
        tally = traffic.simulator.tally
        view.ctr_ours, view.ctr_popularity = tally.rate(False), tally.rate(True)
        end = self._end_ms or now_ms()
        points = (
            min(demo_page.POINTS, (end - self._live_ms) // (1000 * demo_page.STEP_S)) if self._live_ms else 0
        )
        view.ours = tally.series(False, end, demo_page.STEP_S, points)
        view.popular = tally.series(True, end, demo_page.STEP_S, points)
        return view

    def _figures(self) -> dict[str, Any]:
        watched, traffic = self._watched, self._traffic
        live_s = ((self._end_ms or now_ms()) - self._live_ms) / 1000 if self._live_ms else 0.0
        out: dict[str, Any] = {
            "seconds": round(time.monotonic() - self._started, 1),
            "live_s": round(live_s, 1),
            "first_reply_s": round(self._live_at - self._started, 2) if self._live_at else None,
            "max_lag_s": round(max(watched.max_lag_s.values(), default=0.0), 2),
            "max_lag_s_by_agent": {k: round(v, 2) for k, v in sorted(watched.max_lag_s.items())},
            "dead_letters": watched.dead_letters,
            "rankers": watched.rankers,
            "ranker_metrics": {k: round(v, 4) for k, v in watched.ranker_metrics.items()},
            "online_auc": round(watched.quality["auc"], 4) if "auc" in watched.quality else None,
            "examples": int(watched.quality.get("examples", 0)),
        }
        if traffic is None:
            return (
                out | dict.fromkeys(("events", "requests", "replies", "errors"), 0) | {"ranker_version": ""}
            )
        p50, p99 = traffic.latencies.overall()
        simulator, tally = traffic.simulator, traffic.simulator.tally
        end = self._end_ms or now_ms()
        late = end - (end - self._live_ms) // 3
        live_events = traffic.events.total - traffic.past_events
        return out | {
            "users": len(simulator.audience.ids),
            "items": simulator.shelf.size,
            "events": traffic.events.total,
            "events_per_s": round(live_events / live_s, 1) if live_s else 0.0,
            "pace": round(simulator.pace, 2),
            "requests": traffic.requests,
            "replies": traffic.replies,
            "replies_per_s": round(traffic.replies / live_s, 1) if live_s else 0.0,
            "errors": traffic.errors,
            "reply_p50_ms": round(p50, 2),
            "reply_p99_ms": round(p99, 2),
            "ctr_ours": round(tally.rate(False), 4),
            "ctr_popularity": round(tally.rate(True), 4),
            "ctr_ours_last": round(tally.rate(False, late), 4),
            "ctr_popularity_last": round(tally.rate(True, late), 4),
            "ranked_replies": traffic.ranked_replies,
            "degraded": dict(traffic.degraded),
            "ranker_version": traffic.ranker,
            "online_version": traffic.online,
        }

    def _verdict(self, figures: dict[str, Any]) -> str:
        """Return what did not work, in one line; empty when everything did."""
        traffic = self._traffic
        if traffic is None or not self._live_ms:
            return f"the time was over before the first reply; {self._options.seconds:.0f} s are too short"
        if traffic.replies < traffic.requests:
            missing = traffic.requests - traffic.replies
            return f"{missing} of {traffic.requests} requests got no reply: {traffic.first_error}"
        if traffic.errors:
            return f"{traffic.errors} errors, the first: {traffic.first_error}"
        if figures["dead_letters"]:
            return f"{figures['dead_letters']} dead letters, the first: {self._watched.first_letter}"
        if not traffic.ranker:
            trained = f"LightGBM was trained {figures['rankers']} times from {figures['examples']} examples"
            return f"no reply was ranked by LightGBM ({trained}); give it more seconds"
        return ""


async def _service(exits: contextlib.AsyncExitStack, service: Any) -> Any:
    await service.start()
    exits.push_async_callback(service.stop)
    return service


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM unwind this process like Ctrl-C does, so that it cleans up."""

    def leave(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    held = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, held)


def run_demo(options: DemoOptions, out: Console) -> DemoResult:
    """Run the demo; on return no process of it is left.

    Raises
    ------
    UnavailableError
        The broker or the store could not be started.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its errors come as exceptions, too
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        # The loop outlives the stack: its signal handlers stay until everything is stopped.
        with _terminable():
            started = time.monotonic()
            with Stack(keep=options.keep) as stack:
                if options.keep:
                    out.print(f"keeping {stack.folder}", markup=False)
                return loop.run_until_complete(_in_loop(options, stack, out, started))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _in_loop(options: DemoOptions, stack: Stack, out: Console, started: float) -> DemoResult:
    try:
        return await Demo(options, stack, out, started).run()
    finally:
        await _cancel({t for t in asyncio.all_tasks() if t is not asyncio.current_task()})


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel and wait, but not for ever: processes must be stopped whatever a connection is waiting for."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_S)
