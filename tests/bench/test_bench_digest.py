"""The benchmark of the digest, small: one JSON object with every figure."""

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
    options = ["--broker", "embedded", "--items", "500", "--users", "50", "--seconds", "4", "--rounds", "1"]
    command = [sys.executable, "bench/bench_digest.py", *options, "--requests", "10", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result == json.loads(done.stdout)
    for kind in ("without", "with_digest"):
        assert result[kind]["replies"] > 10
        assert result[kind]["errors"] == 0
        assert 0 < result[kind]["p50_ms"] <= result[kind]["p99_ms"]
    assert result["lists"] > 0
    assert result["p99_ratio"] > 0
