"""The benchmark of a serving worker, small: one JSON object with every figure."""

from __future__ import annotations

import argparse
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from bench_serving import Load
from project import ROOT

from headrace.streams.messages.schemas import ErrorInfo, RecItem, RecReply
from headrace.streams.settings import Settings


def test_refusals_are_counted_apart_from_lists() -> None:
    load = Load(Settings(), argparse.Namespace(requests=1))
    load.take(RecReply("a", [RecItem("probe-0", 1.0, {}, [], False, 1.0)]), 5.0, 5.5, None)
    load.take(RecReply("b", error=ErrorInfo("overloaded", "", retry_after_ms=9)), 5.0, 5.1, None)
    load.take(
        RecReply("c", error=ErrorInfo("rate_limited", "", retry_after_ms=9)), 5.0, 5.2, (0, "probe-0", 1.0)
    )
    load.take(RecReply("d", degraded=["online"]), 6.0, 6.25, None)
    assert load.replies == [0.5, 0.25]
    assert (load.degraded, load.errors, load.found) == (1, 0, [])
    assert load.refused == {"overloaded": 1, "rate_limited": 1}


def test_refusals_of_the_overload_are_neither_full_nor_empty_lists() -> None:
    out = runpy.run_path(str(ROOT / "bench" / "answering" / "caller.py"))["Outcome"]()
    out.take(b'{"request_id":"a","items":[{}]}', 0.0, 0.0)
    out.take(b'{"request_id":"b","error":{"code":"overloaded","retry_after_ms":9}}', 0.0, 0.0)
    out.take(b'{"request_id":"c"}', 0.0, 0.0)
    assert (out.answered, out.full, out.empty, out.errors) == (3, 1, 1, 1)
    assert out.refused == {"overloaded": 1}


@pytest.mark.slow
@pytest.mark.broker
def test_one_json_object_with_every_figure(
    tmp_path: Path, redis_url: str, broker: str, real_kafka: bool
) -> None:
    """The fixtures only say whether an embedded broker can run: the benchmark starts its own."""
    if real_kafka:
        pytest.skip("it runs on an embedded broker of its own, whatever the others run on")
    out = tmp_path / "out.json"
    options = ["--broker", "embedded", "--items", "500", "--seconds", "6", "--publish", "50"]
    command = [sys.executable, "bench/bench_serving.py", *options, "--requests", "10", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result == json.loads(done.stdout)
    assert result["replies"] > 0
    assert result["probes"] > 0
    assert result["candidates"] > 100
    assert result["refused"] == {}, "far from its limit"
    for name in ("publish", "reply", "stall", "held", "stage", "stage_cpu"):
        assert 0 <= result[f"{name}_p50_ms"] < result[f"{name}_p99_ms"], name
    assert result["load_items_per_s"] > 0
