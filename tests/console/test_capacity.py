from __future__ import annotations

import json

import pytest
from command_line import run_headrace

LOAD = ("--users", "1e6", "--items", "1e5", "--requests-per-s", "200", "--events-per-s", "5000")


def test_it_prints_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_headrace(monkeypatch, "capacity", *LOAD) == 0
    out = capsys.readouterr().out
    for word in ("kafka: partitions", "redis: memory", "ingest", "serve", "user-state", "rec-replies"):
        assert word in out
    assert "make bench-sizes" not in out


def test_with_why_every_constant_says_where_it_is_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_headrace(monkeypatch, "capacity", *LOAD, "--why") == 0
    out = capsys.readouterr().out
    assert "make bench-sizes" in out.replace("\n", " ")
    assert "ingest_us_per_event" in out


def test_json_is_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_headrace(monkeypatch, "capacity", *LOAD, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"load", "limits", "figures", "constants", "runs"} == set(found)
    assert all(run["commit"] for run in found["runs"].values())


def test_settings_of_the_environment_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read() -> float:
        assert run_headrace(monkeypatch, "capacity", *LOAD, "--json") == 0
        figures = json.loads(capsys.readouterr().out)["figures"]
        return next(f["value"] for f in figures if (f["of"], f["what"]) == ("aggregate", "read"))

    before = read()
    monkeypatch.setenv("HEADRACE_STANDBY_REPLICAS", "2")
    assert read() > 1.2 * before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--users, --items"),
        ((*LOAD[:2],), "--events-per-s"),
        ((*LOAD, "--busy", "0"), "--busy"),
        ((*LOAD, "--countries", "0"), "countries"),
        ((*LOAD, "--active-users", "1e9"), "--active-users"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_headrace(monkeypatch, "capacity", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len([line for line in err.splitlines() if line.startswith("headrace: ")]) == 1
