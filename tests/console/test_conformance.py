"""`headrace conformance`: programs that speak its protocol, well and badly; lines and exit codes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from command_line import run_headrace
from fresh_topics import admin_of, make_topics
from installation import until
from pages import PAGES
from project import ROOT

from headrace.console.callers import program, suite
from headrace.console.callers.checks import CHECKS
from headrace.console.callers.program import ProgramCaller
from headrace.console.callers.run import all_results, chosen
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings

GOOD = [sys.executable, str(ROOT / "tests" / "clients" / "aiokafka" / "caller.py")]
ENDS = "print('ready', flush=True); input()"
GARBAGE = "print('ready', flush=True)\nwhile True: print(input().split('\\t')[0] + '\\tmaybe', flush=True)"
SILENT = "print('ready', flush=True)\nwhile True: input()"


@pytest.fixture
def made(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    asyncio.run(make_topics(settings))
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("HEADRACE_BROKERS", settings.brokers)
    return settings


async def topics_of(settings: Settings) -> list[str]:
    async with admin_of(settings.brokers) as admin:
        return [topic for topic in await admin.list_topics() if topic.startswith(settings.topic_prefix)]


@pytest.mark.broker
def test_a_good_program_passes(
    made: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = asyncio.run(topics_of(made))
    arguments = ["--no-serve", "--timeout", "20", "--", *GOOD]
    assert run_headrace(monkeypatch, "conformance", *arguments) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    own = [check for check in CHECKS if not check.needs_serve]
    name = Path(sys.executable).name
    assert [line.split()[:3] for line in lines] == [["ok", name, check.name] for check in own]
    assert last == f"{len(own)} checks, 0 failed"
    # A broker deletes topics when it has answered.
    asyncio.run(until(lambda: topics_of(made), lambda left: sorted(left) == sorted(before)))


@pytest.mark.broker
def test_a_program_that_ends_fails(
    made: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--check", "late", "--check", "first", "--timeout", "1", "--", sys.executable, "-c", ENDS]
    assert run_headrace(monkeypatch, "conformance", *arguments) == 1
    first, late, last = capsys.readouterr().out.splitlines()
    assert first.startswith("FAILED ")
    assert "the program has ended" in late or "the caller says error" in late
    assert last == "2 checks, 2 failed"


@pytest.mark.broker
def test_without_a_program_our_own_callers_ask(
    made: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_headrace(monkeypatch, "conformance", "--check", "first", "--timeout", "20") == 0
    lines = capsys.readouterr().out.splitlines()
    callers = ["plain", "spring", "faust", "faust-envelope"]
    assert [line.split()[:3] for line in lines[:-1]] == [["ok", caller, "first"] for caller in callers]


def test_wrong_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_headrace(monkeypatch, "conformance", "--check", "frist") == 2
    assert "there is no check 'frist'" in capsys.readouterr().err
    assert run_headrace(monkeypatch, "conformance", "--brokers", "127.0.0.1:1") == 2
    assert "no Kafka broker answers at 127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.broker
@pytest.mark.parametrize(
    ("code", "told"),
    [(GARBAGE, "is not of the protocol"), (SILENT, "nothing 0.5 s after"), (ENDS, "the program has ended")],
    ids=["garbage", "silent", "ends"],
)
async def test_a_program_without_a_right_answer(
    code: str, told: str, topics_made: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "GRACE_S", 0.5)
    monkeypatch.setattr(program, "END_S", 1.0)
    caller = ProgramCaller([sys.executable, "-c", code], topics_made.brokers)
    (found,) = await all_results(topics_made, caller, chosen(["list"]), timeout_s=1)
    assert (found.verdict, told in found.detail) == ("failed", True), found.detail


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["/no/such/program"], "cannot be started: No such file"),
        ([sys.executable, "-c", "print('hello')"], r"its first line must be 'ready'.* it said b'hello"),
        ([sys.executable, "-c", ""], "it said nothing"),
    ],
)
async def test_a_program_that_does_not_start(command: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        await ProgramCaller(command, "127.0.0.1:1").start("rec-replies")


def test_every_check_is_in_the_page() -> None:
    rows = [
        f"| `{check.name}` | {check.text}{' (asks `serve`)' if check.needs_serve else ''} |"
        for check in CHECKS
    ]
    assert "\n".join(rows) in PAGES["docs/caller.md"]
