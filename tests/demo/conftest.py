"""A mark by which the processes of one demo are found."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_process import MARK, marked


@pytest.fixture
def mark() -> Iterator[str]:
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc")
    mark = secrets.token_hex(8)
    yield mark
    for pid in marked(mark):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def environment(mark: str, tmp_path: Path) -> dict[str, str]:
    scratch = tmp_path / mark
    scratch.mkdir()
    # A user's own settings must not lead the demo to their installation.
    return {**os.environ, MARK: mark, "TMPDIR": str(scratch), "HEADRACE_BROKERS": "127.0.0.1:1"}
