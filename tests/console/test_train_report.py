"""`headrace train --report` and `headrace models drift`, on a log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from command_line import plain_console, run_headrace
from fresh_topics import make_topics
from logged_examples import write
from report_logs import DECIDES, slots

from headrace.console.drift_page import drift_table, verdict_of
from headrace.models.features.spec import SPEC
from headrace.models.learning.histograms import Drift
from headrace.models.learning.log_files import folder_of
from headrace.streams.settings import Settings


def test_the_table_of_drift_shows_both_distributions() -> None:
    console, out = plain_console()
    found = [Drift("item_trend", 0.5, (0, 0.5, 0.5, 0), (0, 0.1, 0.8, 0.1)), Drift("hour", 0.01, (1,), (1,))]
    console.print(drift_table("0123456789ab", 20_000, found))
    page = out.getvalue()
    assert "20,000 shown slots" in page
    line = next(line for line in page.splitlines() if "item_trend" in line)
    assert "0.500" in line
    assert "very different" in line
    assert " ▅▅ " in line
    assert " ▁█▁" in line
    assert [verdict_of(v)[0] for v in (0.09, 0.1, 0.25)] == ["", "shifted", "very different"]


@pytest.fixture
async def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    s = make_settings(data_dir=tmp_path / "data")
    await make_topics(s)
    return s


@pytest.mark.broker
def test_a_training_with_a_report_and_then_drift(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    for name in ("brokers", "topic_prefix", "data_dir"):
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("HEADRACE_TRAIN_MIN_ROWS", "1000")
    monkeypatch.setenv("HEADRACE_TRAIN_MIN_CLICKS", "10")
    run = lambda *args: run_headrace(monkeypatch, *args)  # noqa: E731
    assert run("models", "drift") == 1
    assert "nothing to compare" in capsys.readouterr().out
    write(folder_of(settings), slots(4000, "feature"))
    assert run("train", "--report", str(tmp_path / "report")) == 0
    version = capsys.readouterr().out.split()[1]
    report = json.loads((tmp_path / "report" / "report.json").read_bytes())
    assert (report["version"], report["rows"], report["ablation"]) == (version, 4000, None)
    assert next(iter(report["importance"])) == DECIDES
    assert version in (tmp_path / "report" / "report.html").read_text("utf-8")
    more = [msgspec.structs.replace(e, request_id=f"x{e.request_id}") for e in slots(4000, "feature", 1)]
    for e in more:
        x = np.frombuffer(e.features, "<f4").copy()
        x[SPEC.index("together_lift")] *= 3
        e.features = x.tobytes()
    write(folder_of(settings), more, first=4000, ts=9000)
    assert run("models", "drift", "--rows", "4000", "--json", str(tmp_path / "drift.json")) == 0
    page = capsys.readouterr().out
    assert f"ranker {version}" in page
    told = json.loads((tmp_path / "drift.json").read_bytes())
    assert told["slots"] == 4000
    assert told["features"][0]["feature"] == "together_lift"
    assert told["features"][0]["psi"] > 0.25 > 0.1 > told["features"][1]["psi"]
    assert run("models", "drift", "0" * 12) == 1
