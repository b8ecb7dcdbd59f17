"""Runs Faust apps and other services in one process: starts, watches and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import faust
import uvloop
from mode import Service

from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.refusal import refusal, unavailable

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Longest time of a clean shutdown, s. Then the process ends, and batches not acked are delivered again.
SHUTDOWN_S = 10.0


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` in a new uvloop event loop (``asyncio.run`` with a faster loop)."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def run_apps(
    apps: Sequence[faust.App],
    *,
    settings: Settings,
    services: Sequence[Service] = (),
    ready: asyncio.Event | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run apps and services in this process until ``stop``, SIGINT or SIGTERM.

    Services start before the apps, in order, and stop after them, in reverse order.

    Parameters
    ----------
    ready
        Set by this function when everything runs and every app has its partitions.
    stop
        Set it to stop the process; the signals set it too.

    Raises
    ------
    UnavailableError
        When the broker does not answer at the start.
    HeadraceError
        When an app or a service crashed. All others were stopped.
    """
    stop = stop if stop is not None else asyncio.Event()
    with _signals(stop):
        stopping = asyncio.create_task(stop.wait())
        running: list[Service] = []
        watchers: set[asyncio.Task[None]] = set()
        try:
            starting = asyncio.create_task(_start(services, apps, running, settings))
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await starting
                return
            starting.result()
            watchers = {asyncio.create_task(_until_over(service, settings)) for service in running}
            if ready is not None:
                ready.set()
            done, _ = await asyncio.wait({stopping, *watchers}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stopping.cancel()
            for task in watchers:
                task.cancel()
            await _stop_all(running)


async def _start(
    services: Sequence[Service], apps: Sequence[faust.App], running: list[Service], settings: Settings
) -> None:
    try:
        for service in services:
            running.append(service)
            await service.maybe_start()
        running.extend(apps)
        await asyncio.gather(*(app.maybe_start() for app in apps))
    except OSError as exc:
        raise UnavailableError(f"cannot start: {exc}") from exc
    except Exception as exc:
        if type(exc).__name__ == "KafkaConnectionError":
            raise await unavailable(settings, exc) from exc
        raise
    for service in running:
        _raise_crash(service, settings)


async def _until_over(service: Service, settings: Settings) -> None:
    await service.wait()  # until it is stopped or has crashed
    _raise_crash(service, settings)
    raise HeadraceError(f"{service.label} ended")


def _raise_crash(service: Service, settings: Settings) -> None:
    if service.crashed:
        reason = service.crash_reason
        why = (refusal(settings, reason) if reason is not None else "") or repr(reason)
        raise HeadraceError(f"{service.label} crashed: {why}") from reason


async def _stop_all(running: Sequence[Service]) -> None:
    apps = [service for service in running if isinstance(service, faust.App)]
    services = [service for service in reversed(running) if not isinstance(service, faust.App)]
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SHUTDOWN_S
    await _stop_within(apps, deadline)
    for service in services:
        await _stop_within([service], max(deadline, loop.time() + 1.0))


async def _stop_within(services: Sequence[Service], deadline: float) -> None:
    if not services:
        return
    tasks = {asyncio.create_task(service.stop()): service for service in services}
    left = max(0.1, deadline - asyncio.get_running_loop().time())
    done, late = await asyncio.wait(tasks, timeout=left)
    for task in late:
        log.error("%s did not stop in time", tasks[task].label)
        task.cancel()
    for task in done:
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed while stopping: %r", tasks[task].label, task.exception())


class _signals:  # noqa: N801 - used like contextlib's functions
    """SIGINT and SIGTERM set an event; the handlers are removed at the end."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._installed: list[signal.Signals] = []

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
                loop.add_signal_handler(sig, self._stop.set)
                self._installed.append(sig)

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for sig in self._installed:
            loop.remove_signal_handler(sig)
