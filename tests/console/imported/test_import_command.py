"""The command line of imports and exports: what it prints, and what it refuses before it asks a broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run_headrace
from past_events import as_files, past_events

from headrace.console import options
from headrace.streams.clock import now_ms
from headrace.streams.errors import ConfigError

T0 = 1_780_000_000_000


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let nothing of it reach a broker."""
    monkeypatch.setenv("HEADRACE_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path / "data"))


def test_check_needs_no_broker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_files(past_events(500, now_ms()), tmp_path / "past")
    figures = tmp_path / "out.json"
    assert (
        run_headrace(
            monkeypatch, "import", "events", str(tmp_path / "past"), "--check", "--json", str(figures)
        )
        == 0
    )
    assert "500 events are right" in capsys.readouterr().out
    told = json.loads(figures.read_text())
    assert (told["events"], told["files"], told["sent"]) == (500, 3, 0)


def test_bad_rows_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, bad = tmp_path / "a.csv", tmp_path / "bad.jsonl"
    path.write_text(f"type,user_id,item_id,ts\nclick,u,i,{T0}\nlook,u,i,{T0}\nclick,u,i,{T0 + 1}\n")
    assert run_headrace(monkeypatch, "import", "events", str(path), "--check") == 2
    assert "a.csv, row 2: type: 'look' is none of" in capsys.readouterr().err
    for _ in range(2):  # what was sorted is used again
        skipping = ("import", "events", str(path), "--check", "--skip-bad", str(bad))
        assert run_headrace(monkeypatch, *skipping) == 0
        out = capsys.readouterr().out
        assert "2 events are right" in out
        assert "1 bad rows left out" in out
        assert json.loads(bad.read_text())["row"] == 2
    assert run_headrace(monkeypatch, "import", "events", str(path), "--check") == 2
    capsys.readouterr()
    before = (
        "import",
        "events",
        str(path),
        "--check",
        "--skip-bad",
        str(bad),
        "--until",
        "2026-05-28T20:26:40.001Z",
    )
    assert run_headrace(monkeypatch, *before) == 0
    assert "1 events are right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("events", "none.csv"), "none.csv: no such file or folder"),
        (("events", ".", "--since", "yesterday"), "--since yesterday: write a time as"),
        (("events", ".", "--map", "a=b"), "b is no field here"),
        (("items", ".", "--map", "a=ts"), "ts is no field here; there are item_id"),
        (("users", ".", "--set", "age"), "--set age: write our_field=value"),
        (("events", ".", "--map", "a=type", "--set", "type=click"), "type has both --map and --set"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("x\n1\n")
    assert run_headrace(monkeypatch, "import", *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_time_without_a_zone_is_utc() -> None:
    assert options.time_ms("--since", None) is None
    day = options.time_ms("--since", "2026-05-28")
    assert day == 1_779_926_400_000
    for text in ("2026-05-28T00:00:00", "2026-05-28T00:00:00Z", "2026-05-28T02:00:00+02:00"):
        assert options.time_ms("--since", text) == day
    with pytest.raises(ConfigError, match="--until soon"):
        options.time_ms("--until", "soon")
