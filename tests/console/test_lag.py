from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from command_line import run_headrace
from lag_rows import ROWS, row

from headrace.console.lag import chosen, exceeds
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import LagRow


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


@pytest.mark.parametrize(
    ("args", "code"), [([], 0), (["--max-seconds", "9"], 0), (["--max-seconds", "8"], 1), (["--json"], 0)]
)
def test_lag_command(
    args: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fixed(_settings: Settings) -> list[LagRow]:
        return ROWS

    monkeypatch.setattr("headrace.streams.topics.lag.lag", fixed)
    assert run_headrace(monkeypatch, "lag", *args) == code
    out = capsys.readouterr().out
    if "--json" in args:
        assert [r["records"] for r in json.loads(out)] == [5, 7, 0]
    else:
        assert re.search(r"ingest +events +2 +12 +9\.0 s", out)
