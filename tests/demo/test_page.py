from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from command_line import plain_console
from lag_rows import ROWS
from rich.console import Console

from headrace.demo import page as demo_page
from headrace.demo.page import DemoView
from headrace.demo.watched import Watched
from headrace.streams.topics.dead_letters import dead_letter
from headrace.streams.topics.lag_groups import AgentLag, by_agent
from headrace.streams.topics.redrives import Note


def test_sparkline() -> None:
    assert demo_page.sparkline([0.0, None, 0.5, 1.0, 2.0], 1.0) == "▁ ▅██"
    assert demo_page.sparkline([0.0, 0.0], 0.0) == "▁▁"


def test_the_live_page_and_the_plain_line_show_the_figures() -> None:
    view = DemoView(
        "running", 12, 60, 5000, 812, 900, 899, 51, 1, 23.4, 91.2, by_agent(ROWS), 0.12, 0.07,
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


def test_notes_of_a_redrive_are_not_counted_as_dead_letters() -> None:
    refused = SimpleNamespace(key=b"u", value=b"{", offset=3, timestamp=4, headers=())
    written = [
        Note("a", begin=True, letters=[]).record(),
        dead_letter(refused, "events", 0, agent="track_users", reason="undecodable"),
    ]
    watched = Watched()
    watched.on_dead_letters([SimpleNamespace(key=k, value=v, headers=h) for k, v, _, h in written])
    assert watched.dead_letters == 1
    assert watched.first_letter.startswith("track_users on events: undecodable")
