"""Profile of a worker at full load, by py-spy, from the time when the worker has started.

Writes ``<system>.svg`` (flame graph), ``<system>.collapsed`` (stacks) and ``<system>.txt`` (a list by
function).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

from ingest.systems import Bench, FailedError

RATE_HZ = 250
TOP = 60
#: Leaves of threads that wait: py-spy cannot always tell. The event loop's own work, in C, goes with them.
WAITING = ("_worker (concurrent/futures/thread.py", "ServiceThread._start_thread (", "Runner.run (asyncio/")


def py_spy() -> str | None:
    """Return the path of py-spy, beside this interpreter or in PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


async def profile(bench: Bench, name: str, folder: Path) -> list[str]:
    """Run a system twice under py-spy; return the files written. Raises ``FailedError``."""
    program = py_spy()
    if program is None:
        raise FailedError("--profile needs py-spy: pip install py-spy")
    folder.mkdir(parents=True, exist_ok=True)
    svg, collapsed, text = (folder / f"{name}.{ending}" for ending in ("svg", "collapsed", "txt"))
    for path, form in ((svg, "flamegraph"), (collapsed, "raw")):

        async def watch(pid: int, path: Path = path, form: str = form) -> None:
            # Not --native: it takes waiting threads for busy ones. Compiled loops count as their caller.
            options = ["-r", str(RATE_HZ), "-d", "600", "-f", form, "-o", str(path)]
            spy = await asyncio.create_subprocess_exec(
                program, "record", "-p", str(pid), *options,
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                await spy.wait()
            except asyncio.CancelledError:
                with contextlib.suppress(ProcessLookupError):
                    spy.send_signal(signal.SIGINT)  # it writes what it has
                await spy.wait()
            if not path.exists():
                words = (await spy.stderr.read()).decode(errors="replace") if spy.stderr else ""
                raise FailedError(f"py-spy wrote nothing: {words[-500:]}")

        await bench.run(name, beside=watch)
    text.write_text(top(collapsed.read_text()))
    return [str(path) for path in (svg, collapsed, text)]


def top(stacks: str, limit: int = TOP) -> str:
    """Return a list by function: share of samples in it (self), and in it or what it calls (total)."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = waiting = 0
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        if stack.rpartition(";")[2].startswith(WAITING):
            waiting += int(count)
            continue
        frames = [_function(frame) for frame in stack.split(";")]
        samples += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    lines = [
        f"{samples} samples at work ({waiting} of waiting threads left out)",
        "",
        "   self   total  function (most of its own time first)",
    ]
    for frame, n in own.most_common(limit):
        lines.append(f"{n / samples:7.2%} {total[frame] / samples:7.2%}  {frame}")
    lines += ["", "  total    self  function (with what it calls)"]
    for frame, n in total.most_common(limit):
        lines.append(f"{n / samples:7.2%} {own[frame] / samples:7.2%}  {frame}")
    return "\n".join(lines) + "\n"


def _function(frame: str) -> str:
    """Drop the line number: ``name (file.py:12)`` -> ``name (file.py)``."""
    head, colon, line = frame.rpartition(":")
    return f"{head})" if colon and line.rstrip(")").isdigit() else frame
