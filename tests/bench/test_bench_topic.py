"""The benchmark of reading `items` from nothing, tiny: every figure is there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from project import ROOT


@pytest.mark.slow
@pytest.mark.broker
def test_one_json_object_with_both_roles(redis_url: str, broker: str, real_kafka: bool) -> None:
    """The fixtures only say whether an embedded broker can run: the benchmark starts its own."""
    if real_kafka:
        pytest.skip("it runs on an embedded broker of its own, whatever the others run on")
    command = [sys.executable, "bench/bench_topic.py", "--broker", "embedded", "--items", "500"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["broker"], result["items"]) == ("embedded", 500)
    assert result["serve_mb"] > 0
    for role in ("serve", "index"):
        assert 0 < result[f"{role}_items_per_s"] <= 500 / result[f"{role}_s"] * 1.1
        assert result[f"{role}_items_per_cpu_s"] > 0
