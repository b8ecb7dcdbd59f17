"""Work in a process of its own: it can be ended at any moment, and gives all of its memory back.

The process has a lower priority than live work. It ends by itself when its standard input is closed: so it
never outlives the one that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time

from headrace.streams.errors import HeadraceError

NICE = 10


async def run_apart(module: str, argument: str, what: str, first_line: bytes = b"") -> bytes:
    """Run a module of ours; return what it has written to its standard output.

    The process is killed when this task is cancelled.

    Parameters
    ----------
    module
        Its name; it calls ``end_with_parent`` at its start.
    argument
        Its only argument. Who looks at the list of processes sees it.
    what
        What the process is, for the error.
    first_line
        Written to its standard input, which then stays open.

    Raises
    ------
    HeadraceError
        The process failed, or was killed. Its error output is that of this process.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, argument),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the parent only, which then ends this process
    )
    try:
        if process.stdin is not None and first_line:
            process.stdin.write(first_line)
        result = await process.stdout.read() if process.stdout is not None else b""
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise HeadraceError(f"the {what} {how}")
    return result


def end_with_parent() -> None:
    """Lower the priority of this process, and end it when its standard input is closed."""
    keep_behind(os.nice(0))
    os.nice(NICE)
    threading.Thread(target=_wait_and_end, daemon=True).start()


def keep_behind(nice: int) -> None:
    """Give this session a niceness. System calls only, no locks: it may run between a fork and what follows.

    Linux may share the cores out by session (autogroups). Then the niceness of a process counts only beside
    others of its own, and this one would have as much as all live work of a session that is not nice.
    """
    with contextlib.suppress(OSError):  # another system, or a kernel without autogroups
        file = os.open("/proc/self/autogroup", os.O_WRONLY)
        try:
            for _ in range(5):
                with contextlib.suppress(BlockingIOError):  # of all users but root Linux takes one in 0.1 s
                    os.write(file, b"%d" % nice)
                    break
                time.sleep(0.05)
        finally:
            os.close(file)


def _wait_and_end() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)
