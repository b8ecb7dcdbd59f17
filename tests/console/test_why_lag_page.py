"""What ``headrace why-lag`` prints of causes, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from command_line import plain_console
from lag_rows import look, row

from headrace.console.why_lag_page import Explained, drain_text, partitions_text, why_object, why_page
from headrace.streams.topics.lag_cause import Cause, Finding
from headrace.streams.topics.lag_verdict import Verdict
from headrace.streams.topics.worker_metrics import Worker

ROWS = (
    row("ingest", 0, 40, 65.0, verdict=Verdict.STALL, trend=2.0, member="m1"),
    row("ingest", 1, 5, None, verdict=Verdict.OK, trend=-1.0, member="m1"),
)
FOUND = Finding(Cause.POISON, (0,), ("events-0 stands at offset 7", "key [red]x[/]"), "look at it")
EXPLAINED = Explained("ingest", "events", ROWS, None, (FOUND,))
SILENT = Worker("http://w:1/metrics", None, None)


def shown(*explained: Explained) -> list[str]:
    out, text = plain_console()
    out.print(why_page(ROWS, explained, [SILENT]))
    return text.getvalue().splitlines()


def test_the_page_says_what_waits_why_and_what_to_do() -> None:
    assert shown(EXPLAINED) == [
        "ingest on events: STALL, 45 records wait, of unknown age, +1.0/s; not drained at this rate",
        "  poison record, partition 0",
        "    events-0 stands at offset 7",
        "    key [red]x[/]",
        "    -> look at it",
        "no metrics from http://w:1/metrics",
    ]


def test_when_all_is_well_it_says_so() -> None:
    assert shown()[0] == "nothing waits for longer than it lawfully does (2 partitions)"


def test_the_object_has_the_same_and_null_for_what_is_not_known() -> None:
    told = json.loads(json.dumps(why_object(look(7.0, *ROWS), [replace(EXPLAINED, drain_s=5.0)], [SILENT])))
    assert told == {
        "at_s": 7.0,
        "verdict": "STALL",
        "agents": [
            {
                "agent": "ingest",
                "topic": "events",
                "records": 45,
                "seconds": None,
                "trend": 1.0,
                "verdict": "STALL",
                "drain_s": 5.0,
                "causes": [
                    {
                        "cause": "poison record",
                        "partitions": [0],
                        "evidence": ["events-0 stands at offset 7", "key [red]x[/]"],
                        "advice": "look at it",
                    }
                ],
            }
        ],
        "workers": [{"url": "http://w:1/metrics", "answers": False}],
    }


@pytest.mark.parametrize(
    ("numbers", "of", "text"),
    [((0, 1), 2, "all partitions"), ((0,), 1, "partition 0"), ((1, 3), 4, "partitions 1, 3")],
)
def test_partitions_for_people(numbers: tuple[int, ...], of: int, text: str) -> None:
    assert partitions_text(numbers, of) == text


def test_the_time_to_drain_for_people() -> None:
    assert drain_text(None) == "not drained at this rate"
    assert drain_text(12.0) == "drained in 12.0 s"
