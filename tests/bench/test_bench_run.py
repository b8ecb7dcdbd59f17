"""The ingest benchmark as a whole, small: one JSON object with every figure."""

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
    options = ["--broker", "embedded", "--only", "user_stage,recovery,memory,freshness", "--events", "3000"]
    options += ["--runs", "1", "--idle", "2", "--rows", "2000", "--rate", "200", "--seconds", "2"]
    options += ["--warm-up", "0", "--touch-gb", "0"]
    command = [sys.executable, "bench/bench_ingest.py", *options, "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result == json.loads(out.read_text())
    for key in ("user_stage", "recovery_rows_per_s", "freshness_p50_ms", "freshness_p99_ms"):
        assert result[key] > 0, key
    assert 0 < result["item_row_bytes"] <= 1024
    assert 0 < result["user_row_bytes"] <= 2552
    for key in ("pipeline", "pipeline_viral", "stock_faust", "quixstreams", "bytewax"):  # not asked for
        assert result[key] is None, key
    details = result["details"]
    assert details["not_measured"] == {}
    assert details["freshness"]["lost"] == [0]
    users = details["events"]["users"]
    assert details["user_stage"]["proof"] == {"committed": 3000, "users_in_redis": users}
