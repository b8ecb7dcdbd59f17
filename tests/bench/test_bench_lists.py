"""The benchmark of the lists, tiny: its figures are there."""

from __future__ import annotations

import json
import sys

import bench_lists as bench
import pytest


def test_the_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_lists", "--rows", "4000", "--refreshes", "2"])
    monkeypatch.setattr(bench, "CHANGED", 200)
    bench.main()
    result = json.loads(capsys.readouterr().out)
    figures = result["4000_items"]
    assert figures["refresh_ms"]["max"] >= figures["refresh_ms"]["p50"] > 0
    assert figures["newest"]["bytes"] < 200
    assert result["mirror"]["idle_bytes"] < 160 < 1000 < result["mirror"]["active_bytes"]
