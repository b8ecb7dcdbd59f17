"""Roles: which agents a process runs. Every role has its own Faust app and consumer group."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import logging
from collections.abc import Sequence
from functools import partial

import faust
from mode import Service

from headrace.agents.wiring import Wiring
from headrace.serving.store.opened import Opened, open_store
from headrace.streams import garbage
from headrace.streams.app import make_app
from headrace.streams.app_metrics import AppMetrics
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.loop_probe import LoopProbe
from headrace.streams.messages.ids import hash64, use_key
from headrace.streams.metrics import Metrics, Sample
from headrace.streams.metrics_server import MetricsServer
from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.topics import flow
from headrace.streams.topics.acls import topics_of
from headrace.streams.topics.admin import inspect_topics
from headrace.streams.topics.checks import Level
from headrace.streams.topics.lost_ends import written_again
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from headrace.streams.watchdog import Watchdog

#: Role -> its agents that read topics in a consumer group. The trainer reads files; the index, the gateway,
#: the monitor and the canary read without a group: they have no app.
ROLES: dict[str, tuple[str, ...]] = {
    role: tuple(agent.name for agent in agents if agent.reads) for role, agents in flow.roles().items()
}

log = logging.getLogger(__name__)


def parse_roles(text: str) -> list[str]:
    """Return the roles named in ``ingest,aggregate``; raise ``ConfigError`` for one that does not exist."""
    roles = list(dict.fromkeys(r.strip() for r in text.split(",") if r.strip()))
    unknown = [r for r in roles if r not in ROLES]
    if unknown or not roles:
        raise ConfigError(f"unknown role {', '.join(unknown) or '(none)'}: choose from {', '.join(ROLES)}")
    return roles


async def _check_ids(store: Opened) -> None:
    """Raise ``ConfigError`` when the rows in the store have ids under another key."""
    try:
        same = await store.same_ids(f"{hash64('headrace'):016x}")
    except UnavailableError as exc:
        log.info("whether HEADRACE_ID_KEY is the right one could not be asked: %s", exc)
        return
    if not same:
        await store.close()
        raise ConfigError(
            "HEADRACE_ID_KEY is not that of the processes that wrote the rows in Redis: none would be found"
        )


def measuring(settings: Settings, metrics: Metrics, roles: Sequence[str]) -> list[Service]:
    """Return the services that measure a process and serve its metrics; none without a port."""
    if not settings.metrics_port:
        return []
    version = importlib.metadata.version("headrace")
    metrics.read(lambda: [Sample("headrace_role_info", 1, (role, version)) for role in roles])
    probe = LoopProbe(partial(_late, metrics))
    return [MetricsServer(metrics, settings.metrics_host, settings.metrics_port), probe]


def _late(metrics: Metrics, seconds: float, waited: float | None) -> None:
    """Note how late a timer of the loop was, and how long it waited for a CPU since the last one."""
    metrics.observe("headrace_loop_late_seconds", seconds)
    metrics.observe("headrace_loop_held_seconds", max(0.0, seconds - (waited or 0.0)))
    if waited is not None:
        metrics.count("headrace_loop_cpu_wait_seconds_total", by=waited)


def _redis_call(metrics: Metrics, call: str, seconds: float, failed: bool) -> None:
    """Note a call of Redis."""
    if failed:
        metrics.count("headrace_redis_errors_total", call)
    else:
        metrics.observe("headrace_redis_seconds", seconds, call)


async def run_worker(
    settings: Settings,
    roles: Sequence[str],
    *,
    ready: asyncio.Event | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run roles in this process until ``stop``, SIGINT or SIGTERM.

    Raises
    ------
    UnavailableError
        When the broker does not answer, topics are missing, or it would delete what must stay in them.
    ConfigError
        When the rows in Redis were written by processes with another ``HEADRACE_ID_KEY``.
    HeadraceError
        When an app or a service crashed. All others were stopped; batches that were not acknowledged are
        delivered again.
    """
    use_key(settings.id_key)
    found = await inspect_topics(settings, topics_of(roles, settings))
    if refused := [fault.text for fault in found if fault.level is Level.REFUSED]:
        raise UnavailableError("; ".join(refused))
    for fault in found:
        if fault.level is Level.WRONG:
            log.warning("%s", fault.text, extra={"action": "topic_setting", "topic": fault.topic})
    sender = BatchSender(settings, written_again(Topics(settings)))
    # Replies are not compressed: every caller can read them, whatever codecs its client has.
    replier = BatchSender(settings.model_copy(update={"compression": "none"}))
    store = open_store(settings)
    await _check_ids(store)
    wiring = Wiring(settings, sender, replier, store)
    apps: list[faust.App] = []
    services: list[Service] = [*measuring(settings, wiring.metrics, roles), sender, replier]
    store.measure = partial(_redis_call, wiring.metrics)
    if settings.otlp_endpoint and "serve" in roles:
        from headrace.agents.stage.span_export import SpanExport

        wiring.spans = export = SpanExport(settings, wiring.metrics)
        services.append(export)
    for role in roles:
        if role == "trainer":
            from headrace.agents import rollout
            from headrace.agents.stage.watching import Watching
            from headrace.agents.trainer import Trainer

            tail, tried, settings_tried = rollout.attach(wiring)
            services += [tail, tried, settings_tried, Watching(wiring, tried.follower.shelf), Trainer(wiring)]
            if settings.mlflow_uri:
                from headrace.agents.stage.mlflow_mirror import MlflowMirror

                services.append(MlflowMirror(wiring, tail, tried.follower.shelf))
            continue
        if role == "index":
            from headrace.agents.build_index import IndexBuilder

            services.append(IndexBuilder(wiring))
            continue
        if role == "gateway":
            from headrace.agents.gateway import Gateway

            services.append(Gateway(wiring))
            continue
        if role == "canary":
            from headrace.agents.canary import Canary

            services.append(Canary(wiring))
            continue
        if role == "monitor":
            from headrace.agents.monitor import Monitor

            services.append(Monitor(wiring))
            continue
        app = make_app(settings, role)
        for name in ROLES[role]:
            # Imported only when needed: a serving worker does not load the libraries for learning.
            services.extend(importlib.import_module(f"headrace.agents.{name}").attach(app, wiring))
        if settings.metrics_port:
            services.append(AppMetrics(app, role, wiring.metrics))
        services.append(Watchdog(app, role, settings, wiring.metrics))
        apps.append(app)
    # Batches make many short-lived tuples. At its default rate the garbage collector takes a fifth of the
    # CPU.
    garbage.set_up(small="serve" in roles)
    if "serve" in roles:
        services.append(garbage.SmallSteps())
    else:
        services.append(garbage.SmallSteps(garbage.SELDOM_S, garbage.SHARE))
    log.info("starting %s", ", ".join(roles), extra={"action": "start", "roles": list(roles)})
    try:
        await run_apps(apps, settings=settings, services=services, ready=ready, stop=stop)
    finally:
        await store.close()
