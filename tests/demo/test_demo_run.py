"""The demo as its users run it, whole: a process of its own, from a shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from demo_process import COMMAND, marked


@pytest.mark.slow
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
    assert 0 < figures["best_share_popularity"] < 1
    assert 0 < figures["best_share_ours"] < 1
    assert 0 < figures["new_share_ours"] < 1
    assert figures["regret_ours"] > 0
    assert "of the best possible clicks" in done.stdout
    assert figures["max_lag_s"] > 0
    assert "secretly likes" in done.stdout
    assert "\x1b" not in done.stdout
    assert marked(mark) == []
    assert list((tmp_path / mark).iterdir()) == []
