from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from logged_examples import example, processes_with, write

from headrace.models.learning.ranker import RankerParams
from headrace.models.learning.train_process import train_apart
from headrace.models.learning.training import TrainJob, train_from_log
from headrace.streams.errors import HeadraceError

SMALL = RankerParams(trees=10, leaves=7, min_leaf=10, extra={"lambda_l2": 1.0})
ENDLESS = RankerParams(trees=1_000_000)


def job(folder: Path, params: RankerParams = SMALL, **options: Any) -> TrainJob:
    rng = np.random.default_rng(0)
    write(folder, [example(i, rng) for i in range(500)])
    return TrainJob(
        folder, params, **{"min_rows": 1, "min_clicks": 1, "max_rows": 10**6, "sample_rows": 10**6, **options}
    )


async def test_a_process_trains_what_a_call_trains(tmp_path: Path) -> None:
    assert await train_apart(job(tmp_path)) == train_from_log(job(tmp_path))
    assert await train_apart(job(tmp_path, min_rows=1000)) is None


async def test_a_process_that_is_cancelled_is_gone(tmp_path: Path) -> None:
    training = asyncio.create_task(train_apart(job(tmp_path, ENDLESS)))
    while not processes_with(str(tmp_path)):
        await asyncio.sleep(0.01)
    training.cancel()
    with pytest.raises(asyncio.CancelledError):
        await training
    assert processes_with(str(tmp_path)) == []


async def test_a_process_that_fails_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HeadraceError, match="exit code 1"):
        await train_apart(job(tmp_path, RankerParams(objective="nonsense")))
    assert "nonsense" in capfd.readouterr().err


def test_a_process_does_not_outlive_its_worker(tmp_path: Path) -> None:
    text = msgspec.json.encode(job(tmp_path, ENDLESS), enc_hook=str)
    command = [sys.executable, "-m", "headrace.models.learning.train_process", text.decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        began = time.monotonic()
        process.stdin.close()  # as the kernel does when the worker is killed
        assert process.wait(20) == 1
        assert time.monotonic() - began < 20
