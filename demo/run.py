"""The whole loop on one machine for a minute: servers, workers, a simulated audience, figures at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
import webbrowser
from collections.abc import Iterator, Sequence
from typing import Any

import uvloop
from aiokafka.errors import KafkaError
from rich.console import Console

from headrace.demo import page as demo_page
from headrace.demo.figures import DemoState, figures_of, problem_of, view_of
from headrace.demo.result import DemoOptions, DemoResult, Example
from headrace.demo.simulation.simulator import Simulator
from headrace.demo.stack import DASHBOARD, DEMO_SETTINGS, WORKERS, Stack, with_dashboard
from headrace.demo.traffic import Traffic
from headrace.serving.requests.client import RecClient
from headrace.streams.clock import now_ms
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.messages.schemas import RecRequest
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.lag import lag
from headrace.streams.topics.lag_groups import by_agent
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from headrace.streams.topics.tail import Tail

FIRST_REPLY_TIMEOUT_S = 60.0
LAG_EVERY_S = 2.0
GUARD_EVERY_S = 0.3
#: A cancelled task may take this long to end.
CANCEL_S = 4.0


class Demo:
    """One run on a started stack."""

    def __init__(self, options: DemoOptions, stack: Stack, out: Console, started: float) -> None:
        self._stack, self._out = stack, out
        self._settings = with_dashboard(stack.settings(**DEMO_SETTINGS))
        self._state = DemoState(options, started)
        if options.dashboard:
            host, port = self._settings.monitor_host, self._settings.monitor_port
            self._state.dashboard = f"http://{host}:{port}/"
        self._example: Example | None = None
        self._signal = 0
        self._abort = asyncio.Event()

    async def run(self, kept: Sequence[int] = ()) -> DemoResult:
        """Run until the time is over, something fails, or a signal comes; ``kept`` came before."""
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sig, self._on_signal, sig)
        for early in tuple(kept):
            self._on_signal(early)
        problem = details = ""
        try:
            await self._until_an_end()
        except (HeadraceError, KafkaError, OSError) as exc:
            problem = str(exc)
            details = exc.__notes__[0] if hasattr(exc, "__notes__") else ""
        figures = figures_of(self._state)
        problem = problem or ("" if self._signal else problem_of(self._state, figures))
        figures |= {"ok": not problem and not self._signal, "problem": problem}
        return DemoResult(figures, problem, details, self._signal, self._example)

    async def _until_an_end(self) -> None:
        """Run ``_work`` until it is done, a worker ends, or a signal comes; raise the error of a task."""
        work: asyncio.Task[Any] = asyncio.create_task(self._work())
        watch: list[asyncio.Task[Any]] = [
            asyncio.create_task(c) for c in (self._guard(), self._abort.wait(), self._show())
        ]
        try:
            await asyncio.wait({work, *watch}, return_when=asyncio.FIRST_COMPLETED)
            for task in (work, *watch):
                if task.done():
                    task.result()
        finally:
            # Broken connections report to the loop's exception handler. Errors that matter are raised.
            asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
            await _cancel({work, *watch})

    def _on_signal(self, sig: int) -> None:
        self._signal = self._signal or sig
        self._abort.set()

    async def _work(self) -> None:
        settings, topics, state = self._settings, Topics(self._settings), self._state
        await create_topics(settings)
        for roles in (*WORKERS, *([DASHBOARD] if state.options.dashboard else [])):
            self._stack.start_worker(roles, settings)
        state.phase = "publishing the catalogue"
        simulator = Simulator(state.options.world, now_ms())
        async with contextlib.AsyncExitStack() as exits:
            sender = await _service(exits, BatchSender(settings))
            client = await exits.enter_async_context(RecClient(settings, "demo"))
            await _service(exits, Tail(settings, topics.models, state.watched.on_models, name="models"))
            letters = Tail(settings, topics.dead_letters, state.watched.on_dead_letters, name="dead letters")
            await _service(exits, letters)
            traffic = state.traffic = Traffic(simulator, sender, client, topics)
            await traffic.publish_world()
            await traffic.publish_past()
            state.phase = "waiting for the first reply"
            await traffic.first_reply(FIRST_REPLY_TIMEOUT_S)
            state.live_at, state.live_ms = time.monotonic(), now_ms()
            state.phase = "running"
            self._tell()
            await self._loop(traffic)
            example = await _example(traffic)
        self._example = example

    async def _loop(self, traffic: Traffic) -> None:
        """Let the audience visit until the time is over, then wait for the last replies."""
        over = asyncio.Event()
        beside = [asyncio.create_task(c) for c in (traffic.flushes(over), self._poll_lag(over))]
        until = self._state.started + self._state.options.seconds
        visits = asyncio.create_task(traffic.visits(until))
        try:
            await asyncio.wait({visits, *beside}, return_when=asyncio.FIRST_COMPLETED)
            self._state.end_ms = now_ms()
            self._state.phase = "finishing"
            over.set()
            await asyncio.wait(beside, timeout=5.0)  # cancelled at once, they would leave connections open
            for task in (visits, *beside):
                if task.done():
                    task.result()
        finally:
            for task in (visits, *beside):
                task.cancel()
            await asyncio.gather(visits, *beside, return_exceptions=True)
        await traffic.settle()

    def _tell(self) -> None:
        """Say where the dashboard is, and open it where somebody sees it."""
        if not (url := self._state.dashboard):
            self._out.print("no dashboard: it needs pip install 'headrace[gateway]'", markup=False)
            return
        if self._state.options.plain or not self._out.is_terminal:
            self._out.print(f"dashboard: {url}", markup=False)
        if self._state.options.browser:
            webbrowser.open(url)

    async def _guard(self) -> None:
        """Raise ``HeadraceError`` when a worker ends."""
        while True:
            if (worker := self._stack.dead()) is not None:
                error = HeadraceError(f"worker {worker.roles} ended with code {worker.process.returncode}")
                error.add_note(worker.last_words())
                raise error
            await asyncio.sleep(GUARD_EVERY_S)

    async def _poll_lag(self, over: asyncio.Event) -> None:
        while not over.is_set():
            with contextlib.suppress(UnavailableError):  # no answer this time; the next poll follows
                self._state.watched.on_lag(by_agent(await lag(self._settings)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), LAG_EVERY_S)

    async def _show(self) -> None:
        await demo_page.show(self._out, lambda: view_of(self._state), plain=self._state.options.plain)


async def _example(traffic: Traffic) -> Example | None:
    """Return the list of a user who has been here often, with reasons."""
    simulator = traffic.simulator
    user = simulator.regular()
    request = RecRequest(
        "example", simulator.audience.ids[user], "home", n=10, deadline_ms=5000, explain=True
    )
    reply = await traffic.ask(request)
    return (simulator.describe(user), reply, traffic.titles) if reply is not None else None


async def _service(exits: contextlib.AsyncExitStack, service: Any) -> Any:
    await service.start()
    exits.push_async_callback(service.stop)
    return service


@contextlib.contextmanager
def _signals_kept() -> Iterator[list[int]]:
    """Put SIGINT and SIGTERM into the list, for the loop to look at when it runs.

    They raise nothing: Python drops an exception that a handler raises while a process is being started.
    """
    kept: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    held = [(sig, signal.signal(sig, lambda number, _frame: kept.append(number))) for sig in signals]
    try:
        yield kept
    finally:
        for sig, handler in held:
            signal.signal(sig, handler)


def run_demo(options: DemoOptions, out: Console) -> DemoResult:
    """Run the demo; on return all its processes have ended.

    Raises
    ------
    UnavailableError
        The broker or the store could not be started.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its errors are raised, too
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        # The loop is closed after the stack: its signal handlers are needed until everything is stopped.
        with _signals_kept() as kept:
            started = time.monotonic()
            with Stack(keep=options.keep) as stack:
                if options.keep:
                    out.print(f"keeping {stack.folder}", markup=False)
                return loop.run_until_complete(_in_loop(Demo(options, stack, out, started), kept))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _in_loop(demo: Demo, kept: list[int]) -> DemoResult:
    try:
        return await demo.run(kept)
    finally:
        await _cancel({t for t in asyncio.all_tasks() if t is not asyncio.current_task()})


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel the tasks; wait at most ``CANCEL_S`` for their ends.

    A task may hang in a connection, and the processes must be stopped all the same.
    """
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_S)
