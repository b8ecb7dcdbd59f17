"""The benchmark of monitoring, small: one JSON object with every figure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT


@pytest.mark.slow
@pytest.mark.broker
def test_one_json_object_with_every_figure(
    tmp_path: Path, redis_url: str, broker: str, real_kafka: bool
) -> None:
    """The fixtures only say whether an embedded broker can run: the benchmark starts its own."""
    if real_kafka:
        pytest.skip("it runs on an embedded broker of its own, whatever the others run on")
    out = tmp_path / "out.json"
    options = ["--broker", "embedded", "--seconds", "3", "--rounds", "1", "--requests", "10"]
    command = [sys.executable, "bench/bench_monitoring.py", *options, "--events", "500", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result == json.loads(done.stdout)
    for kind in ("without", "with"):
        assert result[kind]["replies_per_s"] > 2
        assert result[kind]["events_per_s"] > 100
        assert result[kind]["event_us"] > 0
        assert result[kind]["answer_ms"] > 0
    assert result["watchers"] > 0
    assert set(result["more_percent"]) == {"event", "answer", "together"}
    age = result["lag_age_s"]
    assert 0 < age["half"] <= age["p99"] <= age["most"]
    assert age["seen"] > 2
