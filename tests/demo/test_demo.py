"""The demo interrupted and killed: nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from demo_process import COMMAND, marked, wait_until


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


def test_a_signal_while_a_process_is_being_started_is_not_lost(
    mark: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """Python drops exceptions of the functions that it calls at a fork, and with them those of handlers."""
    program = """if True:
        import os, signal
        from headrace.console.main import main
        signals = [signal.SIGINT]
        os.register_at_fork(after_in_parent=lambda: signals and os.kill(os.getpid(), signals.pop()))
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", program, *COMMAND[3:], "--seconds", "60"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 128 + signal.SIGINT, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
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
