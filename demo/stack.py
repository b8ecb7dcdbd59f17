"""A whole installation on this machine, for the demo: broker, Redis-compatible server, worker processes.

All files are in one temporary folder. All processes are children: the kernel kills them when this one ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace.demo.embedded import PORTS, EmbeddedBroker, EmbeddedRedis, die_with_parent
from headrace.streams.child_process import keep_behind
from headrace.streams.errors import UnavailableError
from headrace.streams.secured import SecuritySettings
from headrace.streams.settings import Settings

#: The roles of each worker process. Serving is alone, so that a backlog of events never delays a reply.
WORKERS = ("serve", "ingest,aggregate,learn,log,trainer,index")
#: The role of the dashboard, in a process of its own.
DASHBOARD = "monitor"
#: Settings with short intervals: within seconds, an outcome is joined, logged, learnt and published.
DEMO_SETTINGS: dict[str, Any] = {
    "partitions": 2,
    "outcome_wait_ms": 3000,
    "log_flush_s": 2.0,
    "train_every_s": 8.0,
    "catalog_every_s": 60.0,
    "flush_every_ms": 300,  # the embedded broker keeps every version of a row: write fewer
    "train_min_rows": 1500,
    "train_min_clicks": 30,
    "rollout": "off",  # minutes are too short for a test on users: a ranker that passes the gate is live
    "publish_every_s": 2.0,
    "rules": {"epsilon": "0.05"},
    "shown_rest_s": 0.0,  # users come back after seconds: the ranker learns what was shown too often
    "trace_share": 1.0,  # `headrace explain` can make every reply again,
    "trace_candidates": 0,  # from those candidates that its making looked at closely,
    "trace_mb": 128,  # of the last minutes: the embedded broker keeps everything in memory
    "redis_read_ms": 250,  # all processes share two cores, so Redis may be slow
}
#: Longest time for a worker to stop after the signal; then it is killed.
STOP_S = 8.0
#: Niceness of workers that do not serve, and of their sessions.
NICE = 5
#: One thread for linear algebra in each process: several thread pools on two cores wait for each other.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def of_process(settings: Settings, number: int) -> Settings:
    """Return the settings of worker process ``number`` (from 0 on): its metrics have a port of their own."""
    port = settings.metrics_port
    return settings.model_copy(update={"metrics_port": port + number if port else 0})


def with_dashboard(settings: Settings) -> Settings:
    """Return settings by which all workers serve metrics, and a dashboard finds them.

    The dashboard gets the port of the settings, or any free one when that is taken.
    """
    first = settings.metrics_port or free_ports(len(WORKERS) + 1)
    taken = not _is_free(settings.monitor_port)
    return settings.model_copy(
        update={
            "metrics_port": first,
            "monitor_port": free_ports(1) if taken else settings.monitor_port,
            "monitor_targets": tuple(f"127.0.0.1:{first + number}" for number in range(len(WORKERS))),
        }
    )


def free_ports(count: int) -> int:
    """Return the first of so many free ports in a row, which the system does not give out by itself."""
    found = next((p for p in PORTS[::count] if all(_is_free(p + i) for i in range(count))), None)
    if found is None:
        raise UnavailableError(f"there are no {count} free ports in a row")
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment that makes a child process read exactly these settings."""
    env = {k: v for k, v in os.environ.items() if not k.upper().startswith("HEADRACE_")}
    for name, value in settings.model_dump(mode="json").items():
        env[f"HEADRACE_{name.upper()}"] = json.dumps(value) if isinstance(value, list | dict) else str(value)
    return env | _ONE_THREAD


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process; its output goes to ``log``."""

    roles: str
    log: Path
    process: subprocess.Popen[bytes]

    def last_words(self, lines: int = 20) -> str:
        """Return the last ``lines`` lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _low_priority() -> None:
    """Give the process a lower priority than serving. Runs in the child: system calls only, no locks."""
    die_with_parent()
    keep_behind(os.nice(NICE))


class Stack:
    """Broker, store and workers. Use as a context manager, from the main thread; no process is left behind.

    Parameters
    ----------
    keep
        Keep the folder, with the workers' output and the Parquet log.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self.folder = Path()
        self.broker = EmbeddedBroker()
        self.redis = EmbeddedRedis()
        self.workers: list[Worker] = []

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
        try:
            self.broker.start()
            self.redis.start()
        except BaseException:
            self.stop()
            raise
        return self

    def settings(self, **overrides: Any) -> Settings:
        """Return settings that point at this stack."""
        # These servers are without security, whatever the environment says of others.
        values = {name: field.default for name, field in SecuritySettings.model_fields.items()}
        values |= {"brokers": self.broker.bootstrap, "redis_url": self.redis.url}
        values |= {"data_dir": self.folder / "log", "topic_prefix": ""}
        return Settings(**(values | overrides))

    def start_worker(self, roles: str, settings: Settings) -> Worker:
        """Start a worker process in its own session: Ctrl-C reaches only this process, which stops it."""
        log = self.folder / f"{roles.replace(',', '-')}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "headrace", "worker", roles],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(of_process(settings, len(self.workers))),
                start_new_session=True,
                preexec_fn=die_with_parent if "serve" in roles.split(",") else _low_priority,
            )
        worker = Worker(roles, log, process)
        self.workers.append(worker)
        return worker

    def dead(self) -> Worker | None:
        """Return a worker that has ended, if any has."""
        return next((w for w in self.workers if w.process.poll() is not None), None)

    def stop(self) -> None:
        """Stop workers (together, then by force), servers, and remove the folder. May be called twice."""
        workers = [w.process for w in self.workers]
        for process in workers:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in workers:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.redis.stop()
        self.broker.stop()
        if self.folder != Path() and not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not interrupt the clean-up, whose time is bounded.
        held = {sig: signal.signal(sig, signal.SIG_IGN) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.stop()
        finally:
            for sig, handler in held.items():
                signal.signal(sig, handler)
