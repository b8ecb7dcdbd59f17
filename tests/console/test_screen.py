from __future__ import annotations

import pytest
from command_line import plain_console
from lag_rows import ROWS, row

from headrace.console import screen
from headrace.streams.topics.lag_groups import AgentLag, by_agent


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.04, "0.0 s"), (99.0, "99.0 s"), (600, "10 min"), (7200, "2 h"), (864_000, "10 d")],
)
def test_seconds_text(seconds: float | None, text: str) -> None:
    assert screen.seconds_text(seconds) == text


def test_lag_is_summed_over_partitions() -> None:
    assert by_agent(ROWS) == [
        AgentLag("ingest", "events", 2, 12, 9.0),
        AgentLag("serve", "events", 1, 0, 0.0),
    ]
    assert by_agent([*ROWS, row("ingest", 2, 1, None)])[0].seconds is None
