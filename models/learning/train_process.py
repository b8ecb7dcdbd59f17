"""One training in a process of its own: the job is an argument, the result goes to standard output (JSON).

A process can be ended at any moment, gives all of its memory back, and takes no time from the event loop of
the worker. It ends by itself when its standard input is closed: so it never outlives the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading

import msgspec

from headrace.models.learning.places import place
from headrace.models.learning.training import TrainJob, TrainResult, train_from_log
from headrace.streams.errors import HeadraceError

#: Priority of the process: live work goes first.
NICE = 10


async def train_apart(job: TrainJob) -> TrainResult | None:
    """Train in a process; it is killed when this task is cancelled.

    Raises
    ------
    HeadraceError
        The process failed, or was killed. Its error output is that of this process.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        msgspec.json.encode(job, enc_hook=str).decode(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the worker only, which then ends this process
    )
    try:
        result = await process.stdout.read() if process.stdout is not None else b""
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise HeadraceError(f"the training process {how}")
    return msgspec.json.decode(result, type=TrainResult | None)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Train as the argument says; write the result to standard output."""
    os.nice(NICE)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = msgspec.json.decode(sys.argv[1], type=TrainJob, dec_hook=lambda _, text: place(text))
    with contextlib.redirect_stdout(sys.stderr):  # lightgbm.dask prints what it does
        result = train_from_log(job)
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
