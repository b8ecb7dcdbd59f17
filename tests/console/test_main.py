from __future__ import annotations

import re
import subprocess
import sys

import pytest
from command_line import run_headrace
from typer.testing import CliRunner

from headrace.console import main as cli

runner = CliRunner()
COMMANDS = (
    "capacity",
    "demo",
    "worker",
    "topics",
    "replay",
    "recommend",
    "digest",
    "lag",
    "producers",
    "dead-letters",
    "sources",
    "upgrade",
    "train",
    "eval",
    "models",
)
NO_COLOUR = {"TERM": "dumb", "COLUMNS": "120", "NO_COLOR": "1"}


def test_help_is_worth_reading() -> None:
    text = runner.invoke(cli.app, ["--help"], env=NO_COLOUR).output
    for command in COMMANDS:
        assert re.search(rf"\b{command} +[A-Z][^│]+", text), command
    assert "HEADRACE_BROKERS" in text
    assert "headrace demo" in text


@pytest.mark.parametrize(
    "command",
    [
        *([c] for c in COMMANDS),
        ["topics", "create"],
        ["topics", "check"],
        *(["dead-letters", c] for c in ("list", "show", "redrive")),
        *(["eval", c] for c in ("globo", "ebnerd", "mind", "movielens", "simulator")),
        *(["models", c] for c in ("list", "show", "promote", "rollback", "compare", "import")),
    ],
)
def test_every_command_has_help(command: list[str]) -> None:
    result = runner.invoke(cli.app, [*command, "--help"], env=NO_COLOUR)
    assert result.exit_code == 0
    assert re.search(r"[A-Z].+\.", result.output)


def test_no_arguments_shows_help() -> None:
    assert "Usage" in runner.invoke(cli.app, [], env=NO_COLOUR).output


def test_version() -> None:
    assert re.fullmatch(r"headrace \d+\.\d+\.\d+\n", runner.invoke(cli.app, ["--version"]).output)


def test_help_imports_nothing_heavy() -> None:
    heavy = {
        "faust",
        "lightgbm",
        "pyarrow",
        "river",
        "numpy",
        "aiokafka",
        "hnswlib",
        "redis",
        "pydantic_settings",
    }
    code = f"import sys, headrace.console.main; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "args",
    [
        ["worker", "cook"],
        ["worker", "serve,"],
        ["replay", "/nowhere.csv", "--format", "globo"],
        ["eval", "globo", "/nowhere.csv"],
        ["eval", "ebnerd", "/nowhere"],
        ["eval", "mind", "/nowhere"],
        ["eval", "movielens", "/nowhere"],
        ["worker", "serve", "--log-level", "LOUD"],
        ["dead-letters", "show", "last"],
        ["dead-letters", "list", "--since", "yesterday"],
    ],
)
def test_our_errors_are_one_line_and_exit_code_2(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "127.0.0.1:1")
    assert run_headrace(monkeypatch, *args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("headrace: ")]
    assert len(lines) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "args",
    [
        *(["topics", "check"], ["lag"], ["producers"], ["recommend", "u"], ["topics", "create"]),
        *(["dead-letters", "list"], ["dead-letters", "show", "0-0"], ["dead-letters", "redrive"]),
    ],
)
def test_no_broker_is_said(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_headrace(monkeypatch, *args, "--brokers", "127.0.0.1:1") == 2
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headrace.console.options.read_settings", interrupted)
    assert run_headrace(monkeypatch, "lag") == 130
    assert capsys.readouterr() == ("", "")
