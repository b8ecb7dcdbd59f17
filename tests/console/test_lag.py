from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from command_line import run_headrace
from lag_rows import ROWS, look, row

from headrace.console import lag as command
from headrace.console.lag import chosen, exceeds, exit_code
from headrace.streams.errors import UnavailableError
from headrace.streams.topics.lag import LagReader, LagRow, Look
from headrace.streams.topics.lag_verdict import Verdict
from headrace.streams.topics.lag_watch import EVERY_S


def test_a_group_is_named_in_full_or_by_its_role() -> None:
    assert chosen(ROWS, "ingest") == chosen(ROWS, "headrace-ingest") == ROWS[:2]
    assert chosen(ROWS, None) == ROWS
    assert chosen(ROWS, "nobody") == []


@pytest.mark.parametrize(
    ("rows", "limit", "expected"),
    [
        (ROWS, 9.0, False),
        (ROWS, 8.9, True),
        ([row("a", 0, 0, None)], 0.0, False),
        ([row("a", 0, 1, None)], 1e9, True),
        ([], 1e9, True),
    ],
)
def test_lag_limit(rows: list[LagRow], limit: float, expected: bool) -> None:
    assert exceeds(rows, limit) is expected


def test_bulk_requests_may_wait() -> None:
    late = replace(row("serve", 0, 5, 1e6), topic="late")
    assert exceeds([*ROWS, late], 9.0)
    assert not exceeds([*ROWS, late], 9.0, "late")
    assert exceeds([late, *ROWS], 8.9, "late")
    for verdict, code in ((Verdict.OK, 0), (Verdict.STALL, 0), (Verdict.STOP, 1)):
        judged = [replace(late, verdict=verdict)]
        assert exit_code(judged, None, 2.0, "late") == code
    assert exit_code([replace(late, verdict=Verdict.STALL)], None, None) == 1


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_exit_code_says_whether_somebody_has_to_act(verdict: Verdict) -> None:
    rows = [row("a", 0, 0, 0.0, verdict=Verdict.OK), row("a", 1, 9, 3.0, verdict=verdict)]
    fails = verdict in (Verdict.REWIND, Verdict.STALL, Verdict.STOP)
    assert exit_code(rows, None, None) == exit_code(rows, "a", 60.0) == (1 if fails else 0)
    assert exit_code(rows, None, 2.0) == 1


def test_a_group_that_does_not_exist_is_an_error_when_it_is_named() -> None:
    assert exit_code([], "a", None) == 1
    assert exit_code([], None, None) == 0
    assert exit_code([], None, 5.0) == 1


Show = Callable[..., list[float]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Return a function: the broker shows these looks, one after the other, then the last for ever.

    It returns the pauses between them, which take no time. After a pause too many comes Ctrl-C. Each look
    takes ``takes_s``.
    """

    def show(*looks: Look | UnavailableError, most: int = 100, takes_s: float = 0.0) -> list[float]:
        left, pauses = list(looks), []
        clock = 0.0

        async def told(_reader: LagReader, **_options: object) -> Look:
            nonlocal clock
            clock += takes_s
            found = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(found, UnavailableError):
                raise found
            return found

        async def sleep(seconds: float) -> None:
            nonlocal clock
            clock += seconds
            pauses.append(seconds)
            if len(pauses) > most:
                raise KeyboardInterrupt

        monkeypatch.setattr(LagReader, "look", told)
        monkeypatch.setattr("asyncio.sleep", sleep)
        monkeypatch.setattr("time.monotonic", lambda: clock)
        return pauses

    return show


@pytest.mark.parametrize(
    ("args", "code"), [([], 0), (["--max-seconds", "9"], 0), (["--max-seconds", "8"], 1), (["--json"], 0)]
)
def test_lag_command(
    args: list[str],
    code: int,
    shown: Show,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown(look(100.0, *ROWS))
    assert run_headrace(monkeypatch, "lag", "--now", *args) == code
    out = capsys.readouterr().out
    if "--json" in args:
        assert [r["records"] for r in json.loads(out)["partitions"]] == [5, 7, 0]
    else:
        assert re.search(r"ingest +events +2 +12 +9\.0 s", out)


def run_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str) -> tuple:
    """Run the command; return its exit code and the objects it printed."""
    code = run_headrace(monkeypatch, "lag", "--json", *args)
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_it_looks_once_when_nothing_waits(
    shown: Show, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses = shown(look(100.0, row("serve", 0, 0, 0.0)))
    code, (found,) = run_json(monkeypatch, capsys)
    assert (code, found["verdict"], pauses) == (0, "OK", [])


def test_it_looks_until_the_verdict_is_known(
    shown: Show, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses = shown(*(look(100.0 + n, row("serve", 0, 9, 60.0 + n)) for n in range(20)))
    code, (found,) = run_json(monkeypatch, capsys)
    assert (code, found["verdict"]) == (1, "STOP")
    assert len(pauses) == 5, "an agent that commits every half second is not quiet for 5 s"
    assert found["partitions"][0]["seconds"] == 65.0
    assert found["partitions"][0]["trend"] == 0.0


def test_it_looks_for_a_bounded_time(
    shown: Show, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses = shown(*(look(100.0 + n, row("log", 0, 9, 60.0 + n)) for n in range(50)))
    code, (found,) = run_json(monkeypatch, capsys)
    assert (code, found["verdict"], sum(pauses)) == (0, "?", command.SAMPLE_S)
    pauses = shown(*(look(100.0 + n, row("log", 0, 9, 60.0 + n)) for n in range(50)))
    code, (found,) = run_json(monkeypatch, capsys, "--sample", "40")
    assert (code, found["verdict"], sum(pauses)) == (1, "STOP", 25.0)


def test_one_look_says_only_what_it_can(
    shown: Show, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses = shown(look(100.0, row("log", 0, 9, 60.0), row("log", 1, 3, 5.0), row("serve", 0, 0, 0.0)))
    code, (found,) = run_json(monkeypatch, capsys, "--now")
    assert [r["verdict"] for r in found["partitions"]] == ["?", "OK", "OK"]
    assert [r["trend"] for r in found["partitions"]] == [None] * 3
    assert (code, found["verdict"], pauses) == (0, "?", [])


def test_only_the_group_that_is_named_is_waited_for(
    shown: Show, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses = shown(look(100.0, row("log", 0, 9, 60.0), row("serve", 0, 0, 0.0)))
    code, (found,) = run_json(monkeypatch, capsys, "--group", "serve")
    assert (code, pauses, [a["agent"] for a in found["agents"]]) == (0, [], ["serve"])


def test_a_watch_prints_a_line_a_look_and_outlives_its_broker(
    shown: Show, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    idle = look(100.0, row("serve", 0, 0, 0.0))
    pauses = shown(idle, UnavailableError("no Kafka broker answers at b:1"), idle, most=2)
    code, (first, second, third) = run_json(monkeypatch, capsys, "--watch")
    assert code == 130, "Ctrl-C"
    assert first["verdict"] == third["verdict"] == "OK"
    assert second == {"error": "no Kafka broker answers at b:1"}
    assert set(pauses) == {EVERY_S}


@pytest.mark.parametrize(("takes_s", "pause_s"), [(0.25, EVERY_S - 0.25), (9.0, 0.05)])
def test_looks_of_a_watch_begin_every_second_and_one_ends_before_the_next(
    takes_s: float, pause_s: float, shown: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = shown(look(100.0, row("serve", 0, 0, 0.0)), most=3, takes_s=takes_s)
    assert run_headrace(monkeypatch, "lag", "--watch", "--json") == 130
    assert pauses == [pytest.approx(pause_s)] * 4


def test_a_watch_ends_when_no_broker_answers_at_first(
    shown: Show, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(UnavailableError("no Kafka broker answers at b:1"))
    assert run_headrace(monkeypatch, "lag", "--watch") == 2
    assert "no Kafka broker answers at b:1" in capsys.readouterr().err


def test_now_and_watch_contradict_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_headrace(monkeypatch, "lag", "--now", "--watch") == 2
    assert "--now" in capsys.readouterr().err
