"""The demo in its own process, started from a shell, as users start it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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


def test_the_loop_works_and_leaves_nothing(mark: str, environment: dict[str, str], tmp_path: Path) -> None:
    figures_path = tmp_path / "figures.json"
    done = subprocess.run(
        [*COMMAND, "--seconds", "40", "--json", str(figures_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(figures_path.read_text())
    assert figures["ok"] is True
    assert figures["ranker_version"]
    assert figures["ranked_replies"] > 0
    assert figures["rankers"] >= 1
    assert figures["requests"] == figures["replies"] > 100
    assert figures["errors"] == figures["dead_letters"] == 0
    assert figures["events"] > 1000
    assert figures["events_per_s"] > 0
    assert 0 < figures["first_reply_s"] < 40
    assert 0 < figures["reply_p50_ms"] <= figures["reply_p99_ms"]
    assert 0 < figures["ctr_popularity"] < 1
    assert 0 < figures["ctr_ours"] < 1
    assert figures["max_lag_s"] > 0
    assert "secretly likes" in done.stdout
    assert "\x1b" not in done.stdout
    assert marked(mark) == []
    assert list((tmp_path / mark).iterdir()) == []


@pytest.mark.parametrize(
    ("sig", "whole_group", "after_workers"),
    [(signal.SIGINT, True, True), (signal.SIGINT, False, False), (signal.SIGTERM, False, True)],
    ids=["Ctrl-C", "SIGINT to the parent at the start", "SIGTERM to the parent"],
)
def test_an_interrupted_demo_leaves_nothing(
    sig: signal.Signals,
    whole_group: bool,
    after_workers: bool,
    mark: str,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [*COMMAND, "--seconds", "60"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        # Itself, broker, store, two workers; or as soon as there is anything to leave behind.
        started = wait_until(lambda: len(marked(mark)) >= (5 if after_workers else 2), 60)
        (os.killpg if whole_group else os.kill)(demo.pid, sig)
        out, err = demo.communicate(timeout=40)
    assert started, out + err
    assert demo.returncode == 128 + sig, out + err
    assert "Traceback" not in err
    assert wait_until(lambda: marked(mark) == [], 2)
    assert list((tmp_path / mark).iterdir()) == []


def test_a_killed_demo_leaves_no_process(mark: str, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [*COMMAND, "--seconds", "60"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as demo:
        started = wait_until(lambda: len(marked(mark)) >= 5, 60)
        demo.kill()
        demo.wait()
    assert started
    assert wait_until(lambda: marked(mark) == [], 5)
