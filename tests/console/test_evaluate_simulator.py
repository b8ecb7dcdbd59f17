"""The command: figures, table, picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.console.main import app

SMALL = ["--minutes", "0.5", "--users", "60", "--items", "200", "--rate", "4", "--shift-at", "10"]


def run(*options: str) -> str:
    done = CliRunner().invoke(app, ["eval", "simulator", *SMALL, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_two_runs_side_by_side_with_a_picture_and_what_lists_lose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_TRAIN_EVERY_S", "5")
    monkeypatch.setenv("HEADRACE_TRAIN_MIN_ROWS", "300")
    monkeypatch.setenv("HEADRACE_TRAIN_MIN_CLICKS", "5")
    said = run("--compare-off", "--explain", "--report", str(tmp_path), "--json", str(tmp_path / "all.json"))
    figures = json.loads((tmp_path / "all.json").read_text())
    assert figures["off"] == []
    assert figures["learning_off"]["off"] == ["leaves", "online", "retraining", "towers"]
    assert figures["learning_off"]["trainings"] == 1 < figures["trainings"]
    assert figures["over_time"]["at_s"] == [10, 20, 30]
    assert json.loads((tmp_path / "simulator.json").read_text()) == figures
    assert (tmp_path / "simulator.png").read_bytes().startswith(b"\x89PNG")
    for words in ("learning on", "learning off", "not among the candidates", "ratio"):
        assert words in said
    assert f"{figures['ctr_ours']:.2%}" in said
