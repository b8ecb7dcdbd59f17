from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.streams.loop_probe import EVERY_S, CpuWait, LoopProbe

#: A program that computes, for two minutes at most.
BUSY = "import time\nend = time.monotonic() + 120\nwhile time.monotonic() < end: pass"


async def test_a_held_loop_makes_a_timer_late(eventually: Callable[..., Awaitable[None]]) -> None:
    late: list[float] = []
    probe = LoopProbe(lambda seconds, _waited: late.append(seconds))
    await probe.start()
    await eventually(lambda: len(late) > 3)
    late.clear()
    time.sleep(0.2)  # holds the loop
    await eventually(lambda: late)
    await probe.stop()
    assert 0.2 - EVERY_S - 0.005 <= late[0] < 2
    timer = probe._timer
    assert timer is not None
    assert timer.cancelled()


@contextmanager
def one_core_with_others(others: int) -> Iterator[None]:
    """Run this thread on one core, and programs that compute beside it there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        busy = [
            subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(others)
        ]  # they inherit the core
        try:
            yield
        finally:
            for one in busy:
                one.kill()
                one.wait()
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not tell it")
async def test_the_wait_for_a_cpu_is_told_apart(eventually: Callable[..., Awaitable[None]]) -> None:
    told: list[tuple[float, float | None]] = []
    probe = LoopProbe(lambda *one: told.append(one))
    with one_core_with_others(3):
        await probe.start()
        waited = CpuWait()
        began = time.monotonic()
        while time.monotonic() < began + 1:
            pass  # in turns with the others
        alone = waited.since()
        waited.close()
        told.clear()
        await eventually(lambda: len(told) > 3)
    await probe.stop()
    assert alone is not None
    assert 0.1 < alone < time.monotonic() - began
    # The timer was late because the loop was held here; that its thread waited meanwhile is known of it.
    first, wait = told[0]
    assert wait is not None
    assert 0.1 < wait < first + EVERY_S


async def test_a_wait_is_that_since_the_last_call() -> None:
    wait = CpuWait()
    total = sum(wait.since() or 0.0 for _ in range(100))
    assert 0 <= total < 60
    wait.close()
    assert wait.since() is None


def test_a_system_that_does_not_tell_it_says_nothing(tmp_path: Path) -> None:
    wait = CpuWait(str(tmp_path))
    assert wait.since() is None
    wait.close()
