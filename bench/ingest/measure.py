"""Measures from outside: CPU time of a process and its descendants, committed offsets of a consumer group."""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for ops/kafka/run.py

import numpy as np  # noqa: E402
from aiokafka import AIOKafkaConsumer, TopicPartition  # noqa: E402
from aiokafka.admin import AIOKafkaAdminClient  # noqa: E402
from aiokafka.errors import KafkaError  # noqa: E402

from headrace.demo.embedded import EmbeddedBroker, EmbeddedRedis, die_with_parent  # noqa: E402
from headrace.streams.errors import UnavailableError  # noqa: E402
from headrace.streams.settings import Settings  # noqa: E402
from headrace.streams.topics.connection import connection  # noqa: E402
from ops.kafka.run import KafkaServer, RedisServer, java, kafka_jars  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
#: All processes share two cores, so linear algebra uses one thread in each.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Servers:
    """The broker and the store that all systems share."""

    kind: str
    brokers: str
    redis_url: str
    broker_pid: int
    redis_pid: int


@contextmanager
def servers(kind: str) -> Iterator[Servers]:
    """Run a broker and a store: ``kafka``, ``embedded`` or ``auto`` (Kafka where Java and its jars are)."""
    with contextlib.ExitStack() as stack:
        if kind == "auto":
            try:
                java()
                kafka_jars()
                kind = "kafka"
            except UnavailableError:
                kind = "embedded"
        if kind == "kafka":
            broker = stack.enter_context(KafkaServer())
            try:
                redis = stack.enter_context(RedisServer())
            except UnavailableError:
                redis = stack.enter_context(EmbeddedRedis())
        else:
            broker, redis = stack.enter_context(EmbeddedBroker()), stack.enter_context(EmbeddedRedis())
        yield Servers(kind, broker.address, redis.url, broker.pid or 0, redis.pid or 0)


def core_apart() -> frozenset[int]:
    """Keep this process, and all that it starts, off one core; return that one, for the process measured.

    Empty when there is only one core.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return frozenset()
    os.sched_setaffinity(0, cores[1:])
    return frozenset(cores[:1])


def descendants(pid: int) -> list[int]:
    """Return a process and its living descendants."""
    out = [pid]
    for parent in out:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                out += [int(p) for p in (task / "children").read_text().split()]
    return out


def cpu_s(pid: int) -> float:
    """Return the CPU time (user and system, s) of a process, its threads and its descendants, also those
    that have ended and were waited for."""
    ticks = 0
    for process in descendants(pid):
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICK


def touch_memory(size: int) -> None:
    """Use memory and free it, so that the next program gets pages that the machine already has.

    A virtual machine may have returned its free memory to the host. Getting such a page again costs ten times
    as much CPU time (here 9 us for 4 kB), and the first program would have that cost.
    """
    if not size:
        return
    for huge in (False, True):  # they come from different places
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            if huge:
                memory.madvise(mmap.MADV_HUGEPAGE)
            view = np.frombuffer(memory, np.uint8)
            view[:: mmap.PAGESIZE] = 1
            del view  # or it cannot be closed


class Process:
    """A measured program in a session of its own; its output goes to a file. Use as a context manager.

    With ``cores`` it runs on these alone.
    """

    def __init__(
        self,
        command: list[str],
        env: dict[str, str],
        log: Path,
        cwd: Path | None = None,
        cores: frozenset[int] = frozenset(),
    ) -> None:
        self._command, self._env, self._log, self._cwd, self._cores = command, env, log, cwd, cores
        self._popen: subprocess.Popen[bytes] | None = None
        self._final: resource.struct_rusage | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            self._popen = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env | ONE_THREAD,
                cwd=self._cwd,
                start_new_session=True,
                preexec_fn=self._begin,
            )
        return self

    def _begin(self) -> None:
        """Runs in the child: system calls only."""
        die_with_parent()
        if self._cores:
            os.sched_setaffinity(0, self._cores)

    @property
    def pid(self) -> int:
        """Return its process id."""
        assert self._popen is not None
        return self._popen.pid

    def ended(self) -> bool:
        """Return whether it has ended by itself; then ``cpu_s`` is that of the whole run."""
        assert self._popen is not None
        if self._popen.returncode is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._popen.returncode = os.waitstatus_to_exitcode(status)
                self._final = usage
        return self._popen.returncode is not None

    @property
    def returncode(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self._popen.returncode if self._popen is not None else None

    def cpu_s(self) -> float:
        """Return the CPU time it has used, s."""
        if self._final is not None:
            return self._final.ru_utime + self._final.ru_stime
        return cpu_s(self.pid)

    def peak_mb(self) -> float:
        """Return its peak resident memory, MB."""
        if self._final is not None:
            return round(self._final.ru_maxrss / 1024, 1)
        status = Path(f"/proc/{self.pid}/status").read_text()
        return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)

    def last_words(self) -> str:
        """Return the end of its output."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])

    def __exit__(self, *_: object) -> None:
        if self._popen is None or self.ended():
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


class Positions:
    """What groups have committed and where topics end. Use as an async context manager."""

    def __init__(self, brokers: str) -> None:
        how = connection(Settings(brokers=brokers))
        self._admin = AIOKafkaAdminClient(**how)
        self._consumer = AIOKafkaConsumer(**how, enable_auto_commit=False, isolation_level="read_committed")

    async def __aenter__(self) -> Self:
        await self._admin.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return partition -> offset a group has committed; empty before it has."""
        try:
            found = await self._admin.list_consumer_group_offsets(group)
        except KafkaError:  # no coordinator yet: the broker's first group
            return {}
        return {tp.partition: max(0, o.offset) for tp, o in found.items() if tp.topic == topic}

    async def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """Return partition -> next offset to be written."""
        tps = [TopicPartition(topic, p) for p in range(partitions)]
        return {tp.partition: end for tp, end in (await self._consumer.end_offsets(tps)).items()}
