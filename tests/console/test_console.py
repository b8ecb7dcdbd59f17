from __future__ import annotations

import io
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from headrace.console import main as cli
from headrace.console import screen
from headrace.console.lag_view import chosen, exceeds
from headrace.console.screen import AgentLag
from headrace.demo import page as demo_page
from headrace.demo.page import DemoView
from headrace.demo.replay import (
    CHUNK,
    FirstClicks,
    Timeline,
    chunks,
    encode_events,
    encode_items,
    source,
    span,
)
from headrace.demo.stack import environment
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.messages.schemas import ErrorInfo, Event, Item, ModelInfo, RecItem, RecReply
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import LagRow

runner = CliRunner()
COMMANDS = ("demo", "worker", "topics", "replay", "recommend", "lag", "train", "eval")
NO_COLOUR = {"TERM": "dumb", "COLUMNS": "120", "NO_COLOR": "1"}


def main(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """Run the program in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["headrace", *args])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def plain_console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=120, highlight=False), out


# --- help and wrong use ---


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
        ["eval", "globo"],
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
        ["worker", "serve", "--log-level", "LOUD"],
    ],
)
def test_our_errors_are_one_line_and_exit_code_2(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "127.0.0.1:1")
    assert main(monkeypatch, *args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("headrace: ")]
    assert len(lines) == 1
    assert "Traceback" not in err


def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HEADRACE_PARTITIONS", "none")
    assert main(monkeypatch, "topics", "check") == 2
    assert "HEADRACE_PARTITIONS" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["topics", "check"], ["demo"], ["worker", "log"]])
def test_a_setting_that_cannot_be_read_is_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_REPLY_TOPICS", '["rec-replies*"')
    assert main(monkeypatch, *command) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"headrace: HEADRACE_REPLY_TOPICS: .*rec-replies.*\n", err), err


def test_variables_that_do_not_exist_are_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_BROKER", "127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_XYZZY", "1")
    monkeypatch.setenv("HEADRACE_TEST_BROKER", "127.0.0.1:1")
    monkeypatch.setenv("headrace_epsilon", "0.5")
    assert cli._settings().epsilon == 0.5
    assert capsys.readouterr() == (
        "",
        "headrace: there is no setting HEADRACE_BROKER; it is ignored (did you mean HEADRACE_BROKERS?)\n"
        "headrace: there is no setting HEADRACE_XYZZY; it is ignored\n",
    )


def test_the_web_port_is_for_one_role(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    async def run_worker(_settings: Settings, roles: list[str]) -> None:
        ran.append(roles)

    monkeypatch.setattr("headrace.agents.roles.run_worker", run_worker)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("HEADRACE_WEB_PORT", port)
        for args, text in (
            (["worker", "ingest,learn"], "one role.*ingest, learn"),
            (["worker", "serve"], "in use"),
            (["demo"], "demo"),
        ):
            assert main(monkeypatch, *args) == 2
            err = capsys.readouterr().err
            assert re.fullmatch(rf"headrace: HEADRACE_WEB_PORT={port}.*{text}.*\n", err), err
        assert ran == []
    assert main(monkeypatch, "worker", "log,trainer") == 0  # the trainer has no web server
    monkeypatch.setenv("HEADRACE_WEB_PORT", "0")
    assert main(monkeypatch, "worker", "ingest,learn") == 0
    assert ran == [["log", "trainer"], ["ingest", "learn"]]


@pytest.mark.parametrize("args", [["topics", "check"], ["lag"], ["recommend", "u"], ["topics", "create"]])
def test_no_broker_is_said(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, *args, "--brokers", "127.0.0.1:1") == 2
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_settings", interrupted)
    assert main(monkeypatch, "lag") == 130
    assert capsys.readouterr() == ("", "")


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "a:1")
    monkeypatch.setenv("HEADRACE_REDIS_URL", "redis://a:2")
    assert cli._settings().brokers == "a:1"
    both = cli._settings("b:3", "redis://b:4")
    assert (both.brokers, both.redis_url) == ("b:3", "redis://b:4")


# --- recommend ---

REPLY = RecReply(
    "r1",
    [
        RecItem("item-1", 0.25, {"click": 0.25}, ["hot", "trending"], False, 0.98, ["you like [tea]"]),
        RecItem("item-2", 0.125, {"click": 0.125}, ["country"], True, 0.001),
    ],
    ModelInfo("abc", "def", ""),
    ["ranker", "ranker"],
    12.4,
)


def recommend(monkeypatch: pytest.MonkeyPatch, reply: RecReply | type[Exception], *args: str) -> int:
    asked = []

    async def ask(_settings: object, request: object, _timeout: float) -> RecReply:
        asked.append(request)
        if isinstance(reply, RecReply):
            return reply
        raise reply

    monkeypatch.setattr(cli, "_ask", ask)
    return runner_code(monkeypatch, "recommend", "u1", *args)


def runner_code(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    return main(monkeypatch, *args)


def test_recommend_prints_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recommend(monkeypatch, REPLY) == 0
    out = capsys.readouterr().out
    for text in ("item-1", "item-2", "0.250", "0.98", "you like [tea]", "ranker abc", "degraded: ranker"):
        assert text in out
    assert "\x1b" not in out


def test_recommend_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend(monkeypatch, REPLY, "--json") == 0
    assert json.loads(capsys.readouterr().out)["items"][1]["item_id"] == "item-2"


def test_recommend_says_what_was_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = RecReply("r", error=ErrorInfo("invalid_field", "Expected `int` <= 500", "n"))
    assert recommend(monkeypatch, refusal, "--n", "1000") == 1
    assert "field n" in capsys.readouterr().err


def test_recommend_without_a_worker_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recommend(monkeypatch, TimeoutError) == 1
    assert "worker serve" in capsys.readouterr().err
    assert recommend(monkeypatch, UnavailableError) == 2


# --- lag ---


def row(agent: str, partition: int, records: int, seconds: float | None) -> LagRow:
    return LagRow(f"headrace-{agent}", agent, "events", partition, 0, records, records, seconds)


ROWS = [row("ingest", 0, 5, 2.0), row("ingest", 1, 7, 9.0), row("serve", 0, 0, 0.0)]


def test_lag_is_summed_over_partitions() -> None:
    assert screen.by_agent(ROWS) == [
        AgentLag("ingest", "events", 2, 12, 9.0),
        AgentLag("serve", "events", 1, 0, 0.0),
    ]
    assert screen.by_agent([*ROWS, row("ingest", 2, 1, None)])[0].seconds is None


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


@pytest.mark.parametrize(
    ("args", "code"), [([], 0), (["--max-seconds", "9"], 0), (["--max-seconds", "8"], 1), (["--json"], 0)]
)
def test_lag_command(
    args: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fixed(_settings: Settings) -> list[LagRow]:
        return ROWS

    monkeypatch.setattr("headrace.console.lag_view.lag", fixed)
    assert main(monkeypatch, "lag", *args) == code
    out = capsys.readouterr().out
    if "--json" in args:
        assert [r["records"] for r in json.loads(out)] == [5, 7, 0]
    else:
        assert re.search(r"ingest +events +2 +12 +9\.0 s", out)


# --- replay ---


def event(number: int, ts: int, item: str = "i1", user: str = "u1") -> Event:
    return Event(f"e{number}", "click", user, item, ts)


def test_records_are_keyed_by_user_and_dated_by_the_event() -> None:
    (key, value, ts, headers) = encode_events([event(1, 123)])[0]
    assert (key, ts, list(headers)) == (b"u1", 123, [])
    assert value is not None
    assert json.loads(value)["event_id"] == "e1"
    assert encode_items([Item("i1", 55)])[0][2] == 55
    assert encode_items([Item("i1", 55)], 77)[0][2] == 77


def test_an_article_is_published_at_its_first_click() -> None:
    first = FirstClicks()
    items = first([event(1, 10, "a"), event(2, 20, "b"), event(3, 30, "a")])
    assert [(i.item_id, i.published_ts) for i in items] == [("a", 10), ("b", 20)]
    assert first([event(4, 40, "b"), event(5, 50, "c")]) == [Item("c", 50)]


def test_full_speed_never_waits_and_chunks_are_bounded() -> None:
    timeline = Timeline(0, 2 * CHUNK, 1_000_000, 0)
    parts = list(chunks((event(i, i) for i in range(2 * CHUNK + 1)), timeline, None))
    assert [(len(part), wait) for part, wait in parts] == [(CHUNK, 0.0), (CHUNK, 0.0), (1, 0.0)]
    assert parts[-1][0][-1].ts == 1_000_000  # the recording ends now


def test_recorded_times_can_be_kept() -> None:
    timeline = Timeline(0, 5000, 1_000_000, 0, keep=True)
    assert timeline.moved(event(1, 123)).ts == 123


def test_a_speed_follows_event_time() -> None:
    #  event time   0 s      1 s   1 s         5 s
    #  at speed 2   now      0.5 s later       2.5 s later
    now = [1_000_000.0]
    timeline = Timeline(0, 5000, int(now[0]), 2.0)
    events = iter([event(0, 0), event(1, 1000), event(2, 1000), event(3, 5000)])
    parts = []
    for part, wait in chunks(events, timeline, lambda due: max(0.0, (due - now[0]) / 1000)):
        parts.append(([e.ts - 1_000_000 for e in part], wait))
        now[0] += 1000 * wait
    assert parts == [([0], 0.0), ([500, 500], 0.5), ([2500], 2.0)]


def test_an_empty_recording_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no events"):
        span(iter([]))


def test_jsonl_source(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [
        json.dumps({"event_id": f"e{i}", "type": "click", "user_id": "u", "item_id": "i", "ts": i})
        for i in range(3)
    ]
    path.write_text("\n".join(lines) + "\n{}\n")
    assert [e.ts for e in source(path, "jsonl", 3)] == [0, 1, 2]
    with pytest.raises(ConfigError, match="line 4"):
        list(source(path, "jsonl"))


# --- screens ---


def test_progress_off_a_terminal_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    out, text = plain_console()
    now = 0.0
    monkeypatch.setattr(screen.time, "monotonic", lambda: now)
    with screen.progress(out, "work", 100) as report:
        report(1, "too early")
        now = 6.0
        report(50, "half")
        now = 7.0
        report(60, "too soon")
    assert text.getvalue() == "work: 50 of 100 half\n"


def test_sparkline() -> None:
    assert demo_page.sparkline([0.0, None, 0.5, 1.0, 2.0], 1.0) == "▁ ▅██"
    assert demo_page.sparkline([0.0, 0.0], 0.0) == "▁▁"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.04, "0.0 s"), (99.0, "99.0 s"), (600, "10 min"), (7200, "2 h"), (864_000, "10 d")],
)
def test_seconds_text(seconds: float | None, text: str) -> None:
    assert screen.seconds_text(seconds) == text


def test_the_live_page_and_the_plain_line_show_the_figures() -> None:
    view = DemoView(
        "running", 12, 60, 5000, 812, 900, 899, 51, 1, 23.4, 91.2, screen.by_agent(ROWS), 0.12, 0.07,
        [0.1, 0.2], [0.05, 0.06], "abc123", 2, 0.97, 0.61, 4000, 0, 100, 200,
    )  # fmt: skip
    out, text = plain_console()
    out.print(demo_page.render(view))
    page = text.getvalue()
    for shown in (
        "812",
        "899",
        "23 ms",
        "91 ms",
        "ingest",
        "9.0 s",
        "12.0%",
        "7.0%",
        "abc123",
        "0.610",
    ):
        assert shown in page
    assert "\x1b" not in page
    line = demo_page.line(view)
    for shown in ("812 events/s", "51 replies/s", "p99 91 ms", "12.0%", "abc123", "ingest 12 records"):
        assert shown in line


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_page_fits_a_small_terminal(width: int) -> None:
    lags = [
        AgentLag(a, t, 2, 12_345, 3.4) for a in ("aggregate", "ingest", "learn", "log", "serve") for t in "xy"
    ]
    view = DemoView(
        phase="publishing the catalogue",
        events=5_000_000,
        events_per_s=81_200,
        requests=900_000,
        replies=899_999,
        p50_ms=2345.4,
        p99_ms=9123.2,
        lag=lags,
        ours=[0.1] * demo_page.POINTS,
        popular=[0.05] * demo_page.POINTS,
        ranker="0123456789ab",
        ranked_share=0.97,
        auc=0.61,
        learned=4_000_000,
        users=200_000,
        items=200_000,
        pace=0.5,
    )
    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False)
    console.print(demo_page.render(view, width))
    lines = text.getvalue().splitlines()
    assert len(lines) <= 24
    assert "…" not in text.getvalue()
    for shown in ("01234567", "dead letters", "aggregate", "9123 ms", "3.4 s", "visits at 50%"):
        assert shown in text.getvalue()


def test_an_empty_page_renders() -> None:
    out, text = plain_console()
    out.print(demo_page.render(DemoView()))
    assert "starting" in text.getvalue()
    assert "starting" in demo_page.line(DemoView())


# --- workers of the demo ---


def test_a_worker_reads_exactly_the_settings_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "production:9092")
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", "prod-")
    given = Settings(brokers="127.0.0.1:5", topic_prefix="", reply_topics=("a*", "b"), epsilon=0.25)
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    assert Settings() == given
