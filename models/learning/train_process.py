"""One training in a process of its own: the job is an argument, the result goes to standard output (JSON)."""

from __future__ import annotations

import contextlib
import sys

import msgspec

from headrace.models.learning.places import place
from headrace.models.learning.training import TrainJob, TrainResult, train_from_log
from headrace.streams.child_process import end_with_parent, run_apart


async def train_apart(job: TrainJob) -> TrainResult | None:
    """Train in a process; it is killed when this task is cancelled.

    Raises
    ------
    HeadraceError
        The process failed, or was killed. Its error output is that of this process.
    """
    argument = msgspec.json.encode(job, enc_hook=str).decode()
    result = await run_apart(__name__, argument, "training process")
    return msgspec.json.decode(result, type=TrainResult | None)


def main() -> None:
    """Train as the argument says; write the result to standard output."""
    end_with_parent()
    job = msgspec.json.decode(sys.argv[1], type=TrainJob, dec_hook=lambda _, text: place(text))
    with contextlib.redirect_stdout(sys.stderr):  # lightgbm.dask prints what it does
        result = train_from_log(job)
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
