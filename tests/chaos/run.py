"""Break everything while events flow, then prove that nothing was lost or counted twice: ``make chaos``.

Runs a real Kafka, a real Redis and worker processes of every role on this machine. A plan made from the seed
kills workers with -9, freezes them until their group has removed them, lets them leave and join, makes their
clocks wrong, stops the broker, kills Redis and deletes its data, fills the disk, moves committed offsets.
Afterwards every agent must catch up, ``headrace verify`` must find no difference, the dead letters must be
exactly the bad records, and every request must have a reply. Then topics are deleted and made again.

Exit code 0: all of that is true. 1: something is not. 2: the run could not take place. All processes end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]  # for ops/kafka/run.py; for secured servers

from aiokafka.errors import KafkaError  # noqa: E402
from chaos_actions import Breaker  # noqa: E402
from chaos_after import Afterwards  # noqa: E402
from chaos_audit import create_topic, gateway_replies  # noqa: E402
from chaos_clock import Clocks  # noqa: E402
from chaos_crew import Crew, alive_with  # noqa: E402
from chaos_disk import Disk, enter_own_mounts  # noqa: E402
from chaos_http import GATEWAY, Http  # noqa: E402
from chaos_log import Log  # noqa: E402
from chaos_operator import Operator  # noqa: E402
from chaos_output import rebalances, troubles  # noqa: E402
from chaos_plan import make_plan, worker_names  # noqa: E402
from chaos_report import broken, print_plan, print_summary  # noqa: E402
from chaos_secured import SecuredServers  # noqa: E402
from chaos_servers import Servers  # noqa: E402
from chaos_shape import FULL, QUICK, WIDE, WIDE_PARTITIONS, Shape, names_of, with_shards, without  # noqa: E402
from chaos_traffic import Traffic  # noqa: E402
from chaos_verdict import Verdict  # noqa: E402

from headrace.console.screen import console  # noqa: E402
from headrace.demo.embedded import free_port  # noqa: E402
from headrace.demo.stack import environment  # noqa: E402
from headrace.streams.errors import HeadraceError  # noqa: E402
from headrace.streams.settings import HOUR_MS, Settings  # noqa: E402
from headrace.streams.topics.admin import create_topics  # noqa: E402
from headrace.streams.topics.names import Topics  # noqa: E402

#: Environment variable of every process of this run: with it, a process that did not end is found.
MARKER = "HEADRACE_TEST_CHAOS"
#: With more crashes of workers than this before the first reply, the run stops.
MOST_CRASHES = 10
#: Longest time of a run besides its start and its traffic, and of each thing that comes afterwards, s.
BESIDES_S, AFTERWARDS_S = 330.0, 90.0

#: Short intervals, for a test. The lateness is long, so that late events fall into windows of days.
PACE: dict[str, Any] = {
    "topic_prefix": "",
    "partitions": 4,
    "session_timeout_s": 6.0,
    "lateness_ms": 30 * HOUR_MS,
    "outcome_wait_ms": 3000,
    "passed_wait_ms": 600,  # most slots that are passed close before their lists
    "log_flush_s": 2.0,
    "publish_every_s": 3.0,
    "train_every_s": 10.0,
    "train_min_rows": 500,
    "train_min_clicks": 20,
    "redis_read_ms": 250,  # all processes share this machine, so Redis may be slow
    "snapshot_every_s": 10.0,
    "towers_every_s": 10.0,
    "catalog_every_s": 5.0,
    "memory_rows": 1000,  # less than there are: rows are evicted and restored
    "caller_rate": 4.0,  # more than each caller asks for, but one
    "caller_burst": 12,
    "trace_share": 0.05,  # some hundred lists: verify makes them again
}


@dataclass(slots=True)
class Options:
    """The options of the command line."""

    seed: int
    shape: Shape
    quick: bool
    keep: bool = False
    secure: bool = False
    with_gateway: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


class Chaos:
    """One run. ``log`` has its figures and problems."""

    def __init__(self, options: Options, folder: Path, servers: Servers) -> None:
        self.shape = options.shape
        self.plan = make_plan(options.seed, options.shape)
        self.log = Log(console())
        self.stopped_by = ""
        self._folder, self._servers = folder, servers
        pace = PACE | {"dedup_window_ms": self.shape.dedup_window_ms} | options.settings
        self.settings = Settings(
            **servers.access, data_dir=folder / "data", gateway_port=free_port(), **pace
        )  # fmt: skip
        tell = self.log.tell
        clocks = Clocks(folder, {action.target for action in self.plan if action.kind == "clock"})
        self.disk = Disk(folder / "data")
        self._leave_out("clock", clocks.missing)
        self._leave_out("disk-full", self.disk.missing)
        if not options.with_gateway:
            self.log.figures.setdefault("left_out", {})["gateway"] = "the extra gateway is not installed"
        env_of = cache(lambda role: environment(servers.of_user(self.settings, role)))
        self.crew = Crew(folder, env_of, lambda text: tell(text, style="yellow"), clocks)
        self._traffic = Traffic(options.seed, self.shape, self.settings, lambda text: tell(text, style="dim"))
        traffic, url = self._traffic, f"http://127.0.0.1:{self.settings.gateway_port}"
        self._http = Http(
            options.seed, url, traffic.load, traffic.states, lambda: self.crew.process_of(GATEWAY)
        )
        operator = Operator(self.settings, self.crew, self._traffic, self.disk, self.log)
        self._breaker = Breaker(self.crew, servers, self._traffic, operator, self.log)
        by = servers.of_user(self.settings, "operator")
        self._verdict = Verdict(self.settings, by, folder, self.log, {MARKER: os.environ[MARKER]})
        self._after = Afterwards(self.settings, servers, self._traffic, self._verdict, self.log)
        self._planned_over = asyncio.Event()

    def _leave_out(self, kind: str, why: str) -> None:
        """Take actions that are not possible here out of the plan, and say so in the report."""
        if why and any(action.kind == kind for action in self.plan):
            self.plan = [action for action in self.plan if action.kind != kind]
            self.log.figures.setdefault("left_out", {})[kind] = why

    async def run(self) -> None:
        """Start everything, break it under traffic, verify; raise the error that makes this impossible."""
        self.log.tell("starting Kafka and Redis")
        await self._servers.start()
        await self._servers.prepare(self.settings)
        await create_topics(self.settings)
        await create_topic(self.settings, gateway_replies(self.settings))
        await self._traffic.start()
        for name in worker_names(self.shape.workers):
            self.crew.start(name)
        async with contextlib.AsyncExitStack() as exits:
            background(exits, self.crew.supervise())
            await self._break_under_traffic(exits)
            await self._verdict.verify()
            if self.shape.evicts:
                self._verdict.evictions()
            await self._verdict.audit(self.shape.load, self._http)
            if self.log.problems:  # the topics show what happened; they are made again soon
                kept = self._servers.kafka.data, self._folder / "kafka"
                with contextlib.suppress(shutil.Error):  # the broker may delete a file meanwhile
                    await asyncio.to_thread(shutil.copytree, *kept)
            for name in self.shape.afterwards:
                await self._after.run(name)
        self._count()
        await self.crew.stop()
        if self.crew.slow_leavers:
            self.log.problems.append(f"did not stop after SIGTERM: {', '.join(self.crew.slow_leavers)}")

    async def _break_under_traffic(self, exits: contextlib.AsyncExitStack) -> None:
        """Follow the plan while events flow, then wait for every agent. Replies are read until the end."""
        traffic, log = self._traffic, self.log
        background(exits, traffic.follow_replies())
        asking = [background(exits, traffic.ask_for_lists())]
        await self._until_first_reply()
        topics = Topics(self.settings)
        await self._verdict.known_to("ingest", {topics.items, topics.users})
        await traffic.until_published()
        log.t0 = time.monotonic()
        log.tell(f"the first reply; {self.shape.events:,} events in {self.shape.seconds:.0f} s")
        watching = background(exits, self._verdict.watch_lag())
        producing = background(exits, traffic.produce(self._planned_over))
        working = [producing]
        if "transactions" in self.shape.load:
            working.append(background(exits, traffic.transactions.run(self._planned_over)))
        if "greedy" in self.shape.load:
            asking.append(background(exits, traffic.ask_too_often()))
        if "gateway" in self.shape.load:
            asking.append(background(exits, self._http.run()))
        await self._breaker.follow(self.plan)
        self._planned_over.set()
        await asyncio.gather(*working)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        log.tell(f"{traffic.sent:,} events were sent; waiting for every agent")
        await self._verdict.catch_up()
        watching.cancel()

    async def _until_first_reply(self) -> None:
        deadline = time.monotonic() + self.shape.first_reply_s
        while not self._traffic.first_reply.is_set():
            if len(self.crew.crashes) > MOST_CRASHES:
                raise HeadraceError(f"the workers do not stay up: {self.crew.crashes[-1]}")
            if time.monotonic() > deadline:
                raise HeadraceError(
                    f"no list came within {self.shape.first_reply_s:.0f} s of the first request"
                )
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """End all processes."""
        self.crew.kill_all()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._traffic.stop(), 3.0)
        self._servers.kill()

    def _count(self) -> None:
        logs = sorted(self._folder.glob("*-[0-9].log"))
        generations, traffic = rebalances(logs), self._traffic
        self.log.figures |= {
            "broken": broken(self._breaker, traffic),
            **self._servers.redis.figures(),
            "kills": sum(self._breaker.kills.values()),
            "kills_by_role": dict(sorted(self._breaker.kills.items())),
            "rebalances": sum(generations.values()),
            "rebalances_by_role": generations,
            "broker_away_s": self._breaker.broker_away_s,
            "refused_starts": self.crew.refused_starts,
            "crashes": self.crew.crashes,
            "resent": traffic.resent,
            "max_lag_s": {k: round(v, 1) for k, v in sorted(self._verdict.max_lag_s.items())},
            "errors_logged": dict(list(troubles(logs).items())[:15]),
        }


def background(exits: contextlib.AsyncExitStack, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Run ``work`` until the block ends."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=5.0)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error

    exits.push_async_callback(end)
    return task


async def bounded(chaos: Chaos) -> None:
    """Run until the time limit or a signal; clean up in any case."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop(sig: signal.Signals) -> None:
        chaos.stopped_by = sig.name
        task.cancel()

    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(sig, stop, sig)
    loop.set_exception_handler(lambda _loop, _context: None)  # broken connections report to it
    try:
        async with asyncio.timeout(
            chaos.shape.seconds
            + chaos.shape.first_reply_s
            + BESIDES_S
            + AFTERWARDS_S * len(chaos.shape.afterwards)
        ):
            await chaos.run()
    except TimeoutError as exc:
        chaos.log.problems.append(f"it did not end in time: {exc}")
    finally:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(sig, lambda: None)
        await chaos.close()


def run(options: Options, tell: Callable[[str], None]) -> tuple[dict[str, Any], list[str], Path]:
    """Run; return the figures, the problems (none: all is well), and the folder with all output."""
    began = time.monotonic()
    os.environ[MARKER] = token = secrets.token_hex(8)
    folder = Path(tempfile.mkdtemp(prefix="headrace-chaos-"))
    servers = SecuredServers(folder) if options.secure else Servers()
    chaos = Chaos(options, folder, servers)
    log = chaos.log
    (folder / "plan.txt").write_text("\n".join(map(str, chaos.plan)) + "\n", "utf-8")
    try:
        asyncio.run(bounded(chaos))
    except asyncio.CancelledError:
        if not chaos.stopped_by:
            raise
        tell(f"stopped by {chaos.stopped_by}")
        raise KeyboardInterrupt from None
    finally:
        with contextlib.suppress(OSError):
            shutil.copy(servers.kafka.data / "output.log", folder / "kafka.out")
        servers.close()
        if log.problems or options.keep or sys.exc_info()[0]:
            chaos.disk.keep()
        chaos.disk.close()
        left = alive_with(MARKER, token)
        if left:
            log.problems.append(f"left running: {left}")
        if not (log.problems or options.keep or sys.exc_info()[0]):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            tell(f"the output of all workers is in {folder}")
    log.figures |= {
        "seed": options.seed,
        "quick": options.quick,
        "secure": options.secure,
        "seconds": round(time.monotonic() - began, 1),
        "ok": not log.problems,
        "problems": log.problems,
    }
    return log.figures, log.problems, folder


def main() -> int:
    """Run the command line."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its errors are raised, too
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same plan (1)")
    parser.add_argument("--quick", action="store_true", help="a shorter run of less than three minutes")
    parser.add_argument(
        "--secure", action="store_true", help="with TLS, SCRAM and ACLs, and a Redis Cluster that fails over"
    )
    parser.add_argument(
        "--wide",
        action="store_true",
        help=f"{WIDE_PARTITIONS} partitions, 8 workers of each role; nothing is broken",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--keep", action="store_true", help="keep the workers' output in any case")
    parser.add_argument("--plan", action="store_true", help="only show what would be done")
    parser.add_argument(
        "--without", default="", metavar="KIND,KIND", help="leave out kinds of disturbances (see --plan)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another setting")
    given = parser.parse_args()
    shape = WIDE if given.wide else QUICK if given.quick else FULL
    shape = with_shards(shape) if given.secure else shape
    out = console()
    left_out = {name for name in given.without.split(",") if name}
    if unknown := left_out - names_of(FULL):
        parser.error(
            f"--without: {', '.join(sorted(unknown))} is none of {', '.join(sorted(names_of(FULL)))}"
        )
    with_gateway = all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn"))
    shape = without(shape, left_out if with_gateway else left_out | {"gateway"})
    if given.plan:
        print_plan(out, make_plan(given.seed, shape), shape)
        return 0
    enter_own_mounts()
    wide = {
        "partitions": WIDE_PARTITIONS, "session_timeout_s": WIDE.session_s, "memory_rows": 100_000,
        "outcome_wait_ms": 10_000,
    }  # fmt: skip
    overrides = (wide if given.wide else {}) | dict(pair.split("=", 1) for pair in given.set)
    options = Options(given.seed, shape, given.quick, given.keep, given.secure, with_gateway, overrides)
    try:
        figures, problems, _ = run(options, lambda text: out.print(text, markup=False, soft_wrap=True))
    except (HeadraceError, KafkaError, OSError) as exc:
        out.print(f"chaos: {exc}", style="red", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        return 130
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print_summary(out, figures)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
