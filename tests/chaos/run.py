"""Break everything while events flow, then prove that nothing was lost or counted twice: ``make chaos``.

A real Kafka, a real Redis and worker processes of every role on this machine. A plan made from the seed kills
workers with -9, freezes them until their group has given them up, lets them leave and join, stops the broker,
kills Redis and takes its data away. Afterwards every agent must catch up, ``headrace verify`` must find no
difference, the dead letters must be exactly the bad records, and every request must have been answered.

Exit code 0: all of that held. 1: it did not. 2: it could not be tried. Nothing keeps running.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import math
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for ops/kafka/run.py

from aiokafka.errors import KafkaError  # noqa: E402
from chaos_audit import Audit, audit, rebalances, troubles  # noqa: E402
from chaos_crew import Crew, alive_with  # noqa: E402
from chaos_plan import FULL, QUICK, Action, Shape, make_plan, role_of, worker_names  # noqa: E402
from chaos_report import print_plan, print_summary  # noqa: E402
from chaos_traffic import Traffic  # noqa: E402

from headrace.console.screen import console  # noqa: E402
from headrace.demo.stack import environment  # noqa: E402
from headrace.streams.errors import HeadraceError, UnavailableError  # noqa: E402
from headrace.streams.settings import HOUR_MS, Settings  # noqa: E402
from headrace.streams.topics.admin import create_topics  # noqa: E402
from headrace.streams.topics.flow import group_reads  # noqa: E402
from headrace.streams.topics.lag import LagRow, lag  # noqa: E402
from ops.kafka.run import KafkaServer, KeptServer, RedisServer  # noqa: E402

#: Marks every process of this run, so that one left behind is found.
MARKER = "HEADRACE_TEST_CHAOS"
FIRST_REPLY_S = 90.0
#: Before anything is broken, so many ends of workers say that it makes no sense.
MOST_CRASHES = 10
CATCH_UP_S = 120.0
VERIFY_S = 180.0
#: Redis may still be on its way from Kafka when the agents have caught up.
REFILL_S = 30.0
LAG_EVERY_S = 8.0
#: A run takes at most so much longer than its traffic.
BESIDES_S = 420.0

#: Everything at the pace of a test. A long lateness reaches the windows of a day.
PACE: dict[str, Any] = {
    "topic_prefix": "",
    "partitions": 4,
    "session_timeout_s": 6.0,
    "lateness_ms": 30 * HOUR_MS,
    "outcome_wait_ms": 3000,
    "log_flush_s": 2.0,
    "publish_every_s": 3.0,
    "train_every_s": 10.0,
    "train_min_rows": 500,
    "train_min_clicks": 20,
    "redis_read_ms": 250,  # everything shares this machine: slow is not away
    "snapshot_every_s": 10.0,
    "memory_rows": 1000,  # less than there are: rows are evicted and come back
}


@dataclass(slots=True)
class Options:
    """What the command line may choose."""

    seed: int
    shape: Shape
    quick: bool
    keep: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


class Chaos:
    """One run. ``figures`` grow as it goes on; ``problems`` say what did not hold."""

    def __init__(self, options: Options, folder: Path, kafka: KafkaServer, redis: RedisServer) -> None:
        self.options = options
        self.shape = options.shape
        self.plan = make_plan(options.seed, options.shape)
        self.problems: list[str] = []
        self.figures: dict[str, Any] = {}
        self.stopped_by = ""
        self._folder = folder
        self._kafka, self._redis = kafka, redis
        self._out = console()
        self._t0 = 0.0
        # Threads that live as long as this process: Linux kills a child with the thread that started it.
        self._threads = {kafka: ThreadPoolExecutor(1), redis: ThreadPoolExecutor(1)}
        self.settings = Settings(
            brokers=kafka.address,
            redis_url=redis.url,
            data_dir=folder / "data",
            **PACE | {"dedup_window_ms": self.shape.dedup_window_ms} | options.settings,
        )
        self.crew = Crew(folder, environment(self.settings), lambda text: self._tell(text, style="yellow"))
        self._traffic = Traffic(
            options.seed, self.shape, self.settings, lambda text: self._tell(text, style="dim")
        )
        self._done: Counter[str] = Counter()
        self._kills: Counter[str] = Counter()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # one thing at a time
        self._max_lag_s: dict[str, float] = {}
        self._broker_away_s: list[float] = []
        self._planned_over = asyncio.Event()

    # -- the run

    async def run(self) -> None:
        """Do all of it; raise what made it impossible."""
        self._tell("starting Kafka and Redis")
        await asyncio.gather(self._serve(self._kafka, "start"), self._serve(self._redis, "start"))
        await create_topics(self.settings)
        traffic = self._traffic
        await traffic.start()
        for name in worker_names(self.shape.workers):
            self.crew.start(name)
        async with contextlib.AsyncExitStack() as exits:
            background(exits, self.crew.supervise())
            background(exits, traffic.follow_replies())
            asking = background(exits, traffic.ask_for_lists())
            await self._until_first_reply()
            await traffic.until_published()
            self._t0 = time.monotonic()
            self._tell(f"the first reply; {self.shape.events:,} events in {self.shape.seconds:.0f} s")
            watching = background(exits, self._watch_lag())
            producing = background(exits, traffic.produce(self._planned_over))
            await asyncio.gather(*[self._act(action) for action in self.plan])
            self._planned_over.set()
            await producing
            asking.cancel()
            self._tell(f"{traffic.sent:,} events were sent; waiting for every agent")
            await self._catch_up()
            watching.cancel()
            await self._verify()
            await self._audit()
        self._count()
        await self.crew.stop()
        if self.crew.slow_leavers:
            self.problems.append(f"did not stop when told: {', '.join(self.crew.slow_leavers)}")

    async def _until_first_reply(self) -> None:
        deadline = time.monotonic() + FIRST_REPLY_S
        while not self._traffic.first_reply.is_set():
            if len(self.crew.crashes) > MOST_CRASHES:
                raise HeadraceError(f"the workers do not stay up: {self.crew.crashes[-1]}")
            if time.monotonic() > deadline:
                raise HeadraceError(f"no list came within {FIRST_REPLY_S:.0f} s of the first request")
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Leave nothing running."""
        self.crew.kill_all()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._traffic.stop(), 3.0)
        for server, thread in self._threads.items():
            server.kill()  # a start that is under way in its thread fails then
            thread.shutdown(wait=True, cancel_futures=True)
            server.kill()

    async def _serve(self, server: Any, what: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads[server], getattr(server, what))

    def _tell(self, text: str, *, style: str = "") -> None:
        at = f"{time.monotonic() - self._t0:7.1f} s" if self._t0 else "         "
        self._out.print(f"{at}  {text}", style=style, markup=False, soft_wrap=True)

    # -- breaking things

    async def _act(self, action: Action) -> None:
        await asyncio.sleep(max(0.0, self._t0 + action.at_s - time.monotonic()))
        async with self._locks[action.target]:
            if action.kind in ("kill", "leave", "freeze") and not await self.crew.is_up(action.target):
                self.problems.append(f"{action.target} was never up for: {action}")
                return
            self._done[action.kind] += 1
            await self._do(action)

    async def _do(self, action: Action) -> None:
        name = action.target
        match action.kind:
            case "kill":
                self._kills[role_of(name)] += 1
                self._tell(f"kill -9    {name} for {action.for_s:.1f} s", style="red")
                self.crew.kill(name)
                await self._again(action)
            case "leave":
                self._tell(f"leave      {name}", style="cyan")
                await self.crew.leave(name)
                if action.for_s:
                    await self._again(action)
            case "join":
                self._tell(f"join       {name}", style="cyan")
                self.crew.start(name)
            case "freeze":
                self._tell(f"freeze     {name} for {action.for_s:.1f} s", style="magenta")
                self.crew.freeze(name)
                await asyncio.sleep(action.for_s)
                self._tell(f"thaw       {name}", style="magenta")
                self.crew.thaw(name)
            case "broker-stop" | "broker-kill":
                how = "stop" if action.kind == "broker-stop" else "kill"
                self._tell(f"{how}       broker for {action.for_s:.1f} s", style="bold red")
                began = time.monotonic()
                await self._serve(self._kafka, how)
                await asyncio.sleep(action.for_s)
                await self._serve(self._kafka, "start")
                self._broker_away_s.append(round(time.monotonic() - began, 1))
                self._tell("broker is back", style="bold green")
            case "broker-freeze" | "redis-freeze":
                self._tell(f"freeze     {name} for {action.for_s:.1f} s", style="bold red")
                await self._frozen(self._kafka if name == "broker" else self._redis, action.for_s)
                self._tell(f"{name} goes on", style="bold green")
            case "redis-kill":
                self._tell(f"kill -9    redis, its data is lost, for {action.for_s:.1f} s", style="bold red")
                await self._serve(self._redis, "kill")
                self._redis.wipe()
                await asyncio.sleep(action.for_s)
                await self._serve(self._redis, "start")
                self._tell("redis is back, empty", style="bold green")
            case "redis-flush":
                self._tell("flush      redis loses its data", style="bold red")
                await self._flush_redis()

    async def _again(self, action: Action) -> None:
        """Start a worker after its pause; producers that lost their acknowledgements send once more."""
        await asyncio.sleep(action.for_s)
        self.crew.start(action.target)
        if role_of(action.target) == "ingest":
            for _ in range(2):
                await self._traffic.send_recent_again()
                await asyncio.sleep(3.0)

    async def _frozen(self, server: KeptServer, for_s: float) -> None:
        if server.pid is not None:
            os.kill(server.pid, signal.SIGSTOP)
            await asyncio.sleep(for_s)
            os.kill(server.pid, signal.SIGCONT)

    async def _flush_redis(self) -> None:
        import redis.asyncio

        client = redis.asyncio.Redis.from_url(self.settings.redis_url)
        try:
            for _ in range(50):
                try:
                    await client.flushall()
                except (redis.exceptions.RedisError, OSError):  # it may be down just now
                    await asyncio.sleep(0.2)
                else:
                    return
            self.problems.append("Redis did not take FLUSHALL")
        finally:
            await client.aclose()

    # -- afterwards

    async def _watch_lag(self) -> None:
        while True:
            await asyncio.sleep(LAG_EVERY_S)
            rows = await self._lag()
            for row in rows or ():
                if row.records and row.seconds is not None:
                    self._max_lag_s[row.agent] = max(self._max_lag_s.get(row.agent, 0.0), row.seconds)
            if rows is not None:
                self._tell(f"lag        {describe(rows)}", style="dim")

    async def _lag(self) -> list[LagRow] | None:
        with contextlib.suppress(UnavailableError, KafkaError, OSError, TimeoutError):
            return await asyncio.wait_for(lag(self.settings), 10.0)
        return None

    async def _catch_up(self) -> None:
        began, good, rows = time.monotonic(), 0, None
        while good < 2 and time.monotonic() - began < CATCH_UP_S:
            await asyncio.sleep(1.5)
            rows = await self._lag()
            there = {row.agent for row in rows or ()}
            good = (
                good + 1 if rows and there >= group_reads().keys() and not any(r.records for r in rows) else 0
            )
        took = time.monotonic() - began
        self.figures |= {"caught_up": good >= 2, "catch_up_s": round(took, 1)}
        if good < 2:
            self.problems.append(f"not caught up within {CATCH_UP_S:.0f} s: {describe(rows or [])}")
        self._tell(f"caught up after {took:.1f} s" if good >= 2 else self.problems[-1])

    async def _verify(self) -> None:
        """Let ``headrace verify`` compare; Redis may not be refilled yet, so it gets more than one look."""
        path, began = self._folder / "verify.json", time.monotonic()
        looks, shrunk, least = 0, 0, math.inf
        while True:
            looks += 1
            path.unlink(missing_ok=True)
            code = await self._command("verify", "verify", "--first", "1000", "--json", str(path))
            found = json.loads(path.read_text("utf-8")) if path.exists() else {}
            if found.get("differences", math.inf) < least:
                shrunk, least = looks, found["differences"]
            if code != 1 or looks - shrunk >= 2 or time.monotonic() - began > REFILL_S:
                break
            first = [text_of(difference) for difference in found.get("first", [])[:1]]
            self._tell(f"verify finds {found.get('differences')} differences: {first}", style="yellow")
            await asyncio.sleep(3.0)
        keys = ("differences", "values_compared", "users", "items", "countries", "rejected")
        self.figures |= {key: found[key] for key in keys if key in found}
        self.figures |= {"verify_looks": looks, "duplicates": found.get("duplicates")}
        self.figures["verified_events"] = found.get("events")
        if code == 1:
            self.problems.append(f"verify finds {found.get('differences')} differences")
            self.figures["first"] = [text_of(difference) for difference in found.get("first", [])[:20]]
        elif code:
            self.problems.append(f"verify could not verify (exit code {code})")
        self._tell(f"verify: {found.get('differences')} differences in {found.get('values_compared')} values")

    async def _command(self, log: str, *arguments: str) -> int:
        with (self._folder / f"{log}.out").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "headrace", *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                env=environment(self.settings) | {MARKER: os.environ[MARKER]}, start_new_session=True,
            )  # fmt: skip
        try:
            return await asyncio.wait_for(process.wait(), VERIFY_S)
        except TimeoutError:
            return -1
        finally:
            if process.returncode is None:
                process.kill()

    async def _audit(self) -> None:
        found = await audit(self.settings)
        for what, which in (
            ("bad records are no dead letters", found.missing_letters()),
            ("dead letters are of good records", found.unexpected_letters()),
            ("requests got no reply", found.unanswered()),
            ("requests were shown and never labelled", found.unlabelled()),
            ("examples are not in the Parquet log", found.unlogged()),
        ):
            if which:
                self.problems.append(f"{len(which)} {what}, the first: {which[0]!r}")
        self.figures |= audit_figures(found)

    def _count(self) -> None:
        done, logs = self._done, sorted(self._folder.glob("*-[0-9].log"))
        generations = rebalances(logs)
        self.figures |= {
            "kills": sum(self._kills.values()),
            "kills_by_role": dict(sorted(self._kills.items())),
            "rebalances": sum(generations.values()),
            "rebalances_by_role": generations,
            "broker_restarts": done["broker-stop"] + done["broker-kill"],
            "broker_away_s": self._broker_away_s,
            "server_freezes": done["broker-freeze"] + done["redis-freeze"],
            "redis_losses": done["redis-kill"] + done["redis-flush"],
            "zombies": done["freeze"],
            "joins": done["join"],
            "leaves": done["leave"],
            "refused_starts": self.crew.refused_starts,
            "crashes": self.crew.crashes,
            "resent": self._traffic.resent,
            "max_lag_s": {k: round(v, 1) for k, v in sorted(self._max_lag_s.items())},
            "errors_logged": dict(list(troubles(logs).items())[:15]),
        }


def text_of(difference: dict[str, Any]) -> str:
    """Return a difference that ``verify`` found, in a line."""
    at = f" at {difference['at']}" if difference.get("at") else ""
    return "{row}: {feature}{at}: {expected} expected, {found} found".format_map(difference | {"at": at})


def audit_figures(found: Audit) -> dict[str, Any]:
    """Return what the topics say, for the report."""
    waits = found.waits_ms()
    return {
        "events": found.events,
        "sent_again": found.again,
        "bad_records": len(found.bad),
        "dead_letters": len(found.buried),
        "dead_letters_written": found.letters,
        "requests": len(found.asked),
        "answered": len(waits),
        "answered_in_2_s": sum(wait <= 2000 for wait in waits),
        "unanswered": len(found.unanswered()),
        "replies": found.replies,
        "shown": len(found.shown),
        "labelled": len(found.labelled & found.shown),
        "examples": len(found.examples),
        "examples_logged": len(found.examples & found.logged),
        "reply_p50_ms": waits[len(waits) // 2] if waits else None,
        "reply_max_ms": waits[-1] if waits else None,
    }


def describe(rows: list[LagRow]) -> str:
    """Return the lag of every agent in a line."""
    records: Counter[str] = Counter()
    for row in rows:
        records[row.agent] += row.records
    return ", ".join(f"{agent} {count:,}" for agent, count in sorted(records.items())) or "unknown"


def background(exits: contextlib.AsyncExitStack, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Run something until the block ends."""
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
    """Run within the time there is, until a signal comes; clean up in any case."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop(sig: signal.Signals) -> None:
        chaos.stopped_by = sig.name
        task.cancel()

    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(sig, stop, sig)
    loop.set_exception_handler(lambda _loop, _context: None)  # connections cut off complain to the loop
    try:
        async with asyncio.timeout(chaos.shape.seconds + BESIDES_S):
            await chaos.run()
    except TimeoutError as exc:
        chaos.problems.append(f"it did not end in time: {exc}")
    finally:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(sig, lambda: None)
        await chaos.close()


def run(options: Options, tell: Callable[[str], None]) -> tuple[dict[str, Any], list[str], Path]:
    """Run; return the figures, the problems (none: everything held), and the folder with all output."""
    began = time.monotonic()
    os.environ[MARKER] = token = secrets.token_hex(8)
    folder = Path(tempfile.mkdtemp(prefix="headrace-chaos-"))
    kafka, redis = KafkaServer(), RedisServer()
    chaos = Chaos(options, folder, kafka, redis)
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
            shutil.copy(kafka.data / "output.log", folder / "kafka.out")
        kafka.close()
        redis.close()
        left = alive_with(MARKER, token)
        if left:
            chaos.problems.append(f"left running: {left}")
        if not (chaos.problems or options.keep or sys.exc_info()[0]):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            tell(f"the output of all workers is in {folder}")
    chaos.figures |= {
        "seed": options.seed,
        "quick": options.quick,
        "seconds": round(time.monotonic() - began, 1),
        "ok": not chaos.problems,
        "problems": chaos.problems,
    }
    return chaos.figures, chaos.problems, folder


def main() -> int:
    """Run the command line."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its errors come as exceptions, too
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same plan (1)")
    parser.add_argument("--quick", action="store_true", help="a shorter run of less than three minutes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--keep", action="store_true", help="keep the workers' output in any case")
    parser.add_argument("--plan", action="store_true", help="only show what would be done")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another setting")
    given = parser.parse_args()
    shape = QUICK if given.quick else FULL
    out = console()
    if given.plan:
        print_plan(out, make_plan(given.seed, shape))
        return 0
    overrides = dict(pair.split("=", 1) for pair in given.set)
    options = Options(given.seed, shape, given.quick, given.keep, overrides)
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
