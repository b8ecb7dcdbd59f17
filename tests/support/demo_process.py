"""The demo as a process, and what is left of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

MARK = "DEMO_TEST_MARK"
COMMAND = [
    sys.executable,
    "-m",
    "headrace",
    "demo",
    "--users",
    "300",
    "--items",
    "600",
    "--rate",
    "25",
]


def marked(mark: str) -> list[int]:
    """Return the ids of the living processes of a demo, by their environment or their working directory.

    (A server that writes its title into its process name has overwritten its environment by that.)
    """
    out = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                folder = str((entry / "cwd").readlink())
            except OSError:
                continue
            if state != "Z" and (f"{MARK}={mark}".encode() in environ or f"/{mark}/" in folder):
                out.append(int(entry.name))
    return out


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
