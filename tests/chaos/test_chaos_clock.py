"""A worker's clock can be made wrong while it runs; its monotonic clock and its waits stay right."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chaos_clock import Clocks

CHILD = """
import sys, threading, time
for _ in sys.stdin:
    before = time.monotonic()
    time.sleep(0.01)
    threading.Event().wait(0.01)
    print(time.time(), time.time_ns() / 1e9, time.monotonic() - before, flush=True)
"""


def test_a_clock_is_wrong_at_once_and_right_again(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path, ["ingest-0"])
    if clocks.missing:
        pytest.skip(clocks.missing)
    with subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | clocks.environment("ingest-0"),
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for step in (0, 7200, -7200, -140, 0):
            clocks.set("ingest-0", step)
            child.stdin.write("\n")
            child.stdin.flush()
            *times, waited = map(float, child.stdout.readline().split())
            assert all(abs(at - time.time() - step) < 5 for at in times)
            assert 0.02 <= waited < 5
        child.stdin.close()


def test_other_workers_keep_their_clock(tmp_path: Path) -> None:
    assert Clocks(tmp_path, ["ingest-0"]).environment("ingest-1") == {}
