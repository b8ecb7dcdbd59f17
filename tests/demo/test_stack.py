from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from headrace.demo import embedded
from headrace.demo.embedded import PORTS, free_port
from headrace.demo.stack import (
    NICE,
    WORKERS,
    _low_priority,
    environment,
    free_ports,
    of_process,
    with_dashboard,
)
from headrace.streams.settings import Settings

AUTOGROUP = Path("/proc/self/autogroup")


def test_a_worker_reads_exactly_the_settings_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "production:9092")
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", "prod-")
    given = Settings(brokers="127.0.0.1:5", topic_prefix="", reply_topics=("a*", "b"), candidates=250)
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    assert Settings() == given


def test_every_worker_serves_its_metrics_on_its_own_port() -> None:
    served = Settings(metrics_port=9464)
    assert [of_process(served, n).metrics_port for n in range(3)] == [9464, 9465, 9466]
    assert of_process(Settings(), 2) == Settings()


def test_the_dashboard_of_the_demo_finds_every_worker() -> None:
    """Its port is that of the settings, or another one when that is taken."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        taken = other.getsockname()[1]
        other.listen()
        found = with_dashboard(Settings(monitor_port=taken, metrics_port=9464))
    assert found.monitor_port != taken
    assert found.monitor_targets == tuple(f"127.0.0.1:{9464 + n}" for n in range(len(WORKERS)))
    assert of_process(found, 1).metrics_port == 9465
    free = free_ports(3)
    assert with_dashboard(Settings(monitor_port=free)).monitor_port == free


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this system does not share its cores out by session")
def test_workers_that_do_not_serve_are_nice_and_their_sessions_too() -> None:
    told = "import os; print(os.nice(0), open('/proc/self/autogroup').read().split()[-1])"
    process = subprocess.run(
        [sys.executable, "-c", told],
        capture_output=True, text=True, check=True, start_new_session=True, preexec_fn=_low_priority,
    )  # fmt: skip
    assert process.stdout.split() == [str(os.nice(0) + NICE)] * 2


def test_a_port_is_given_out_once() -> None:
    """A cluster takes eighteen before the first of its servers listens."""
    assert len({free_port() for _ in range(700)}) == 700


def test_no_connection_takes_a_free_port_while_its_server_is_away() -> None:
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 10
    assert ports <= set(PORTS)
    with ExitStack() as taken, pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "PORTS", range(PORTS.start, PORTS.start + 100))
        for port in embedded.PORTS:
            probe = taken.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
        assert free_port() not in embedded.PORTS, "any is better than none"
