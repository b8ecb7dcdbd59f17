"""The output of `headrace verify`, and its exit codes."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console
from strategies import T0

import headrace.oracle
from headrace import console
from headrace.console import main as cli
from headrace.console.verification.page import show
from headrace.console.verification.result import VerifyResult


@pytest.mark.parametrize(
    ("result", "code", "words"),
    [
        (VerifyResult(values_compared=5), 0, "no differences"),
        (VerifyResult(), 2, "nothing to compare"),
        (
            VerifyResult(
                values_compared=5,
                differences=3,
                rows_that_differ=2,
                rejected=1,
                rejected_by={"too_late": 1},
                first=[
                    {
                        "row": "user [red]u",
                        "key": "1",
                        "feature": "5m click",
                        "at": T0,
                        "expected": 1234567,
                        "found": 0.25,
                    },
                    {
                        "row": "item i",
                        "key": "2",
                        "feature": "row in Redis",
                        "at": None,
                        "expected": "no row",
                        "found": "x",
                    },
                ],
                notes=["records arrived meanwhile"],
            ),
            1,
            "3 differences in 2 rows|user [red]u|2023-11-14T22:13:20|1,234,567|0.25|no row|1 too_late|"
            "and 1 more|meanwhile",
        ),
    ],
)
def test_page_and_exit_code(result: VerifyResult, code: int, words: str) -> None:
    out = Console(width=160, record=True, color_system=None, quiet=False)
    with out.capture() as got:
        show(out, result)
    assert result.exit_code == code
    assert all(word in got.get() for word in words.split("|")), got.get()


def test_no_broker_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "127.0.0.1:1")
    monkeypatch.setattr(sys, "argv", ["headrace", "verify"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headrace: ")]
    assert len(lines) == 1
    assert "no Kafka broker answers" in lines[0]


def test_without_polars_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [
        n for n in sys.modules if n.startswith(("headrace.console.verification", "headrace.oracle"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(console, "verification")  # restored afterwards, whatever is imported meanwhile
    monkeypatch.delattr(headrace, "oracle")
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setattr(sys, "argv", ["headrace", "verify"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "headrace[verify]" in capsys.readouterr().err
