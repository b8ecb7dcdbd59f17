"""The table of ``headrace lag``, its notes, and its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest
from command_line import plain_console
from lag_rows import ROWS, row

from headrace.console.lag_page import lag_object, lag_page, member_text, notes, trend_text
from headrace.streams.topics.lag import LagRow
from headrace.streams.topics.lag_verdict import Verdict

FAUST = "faust-0.15.3-0f66e52b-932b-a86f-3c29-aca4af87bed9"
MIXED = [
    row("ingest", 0, 0, 0.0, verdict=Verdict.OK, trend=0.0, member=FAUST),
    row("ingest", 1, 1200, 65.0, verdict=Verdict.STALL, trend=12.4, member=FAUST),
    row("ingest", 2, 9, 65.0, verdict=Verdict.STALL, trend=0.0, member=FAUST),
    row("log", 0, 40, None, verdict=Verdict.STOP, trend=None, deleted=7),
]


def shown(
    rows: Sequence[LagRow], missing: Sequence[tuple[str, str]] = (), *, partitions: bool = False
) -> str:
    out, text = plain_console()
    out.print(lag_page(rows, missing, partitions=partitions))
    return text.getvalue()


def test_a_row_per_agent_has_the_worst_verdict() -> None:
    text = shown(MIXED)
    assert re.search(r"ingest +events +3 +1,209 +65\.0 s +0 +\+12/s +aca4af87bed9 +STALL", text)
    assert re.search(r"log +events +1 +40 +- +7 +- +- +STOP", text), "what is not known is no zero"


def test_a_row_per_partition_has_its_own() -> None:
    text = shown(MIXED, partitions=True)
    assert re.search(r"ingest +events +0 +0 +0\.0 s +0 +0/s +aca4af87bed9 +OK", text)
    assert re.search(r"ingest +events +1 +1,200 +65\.0 s +0 +\+12/s +aca4af87bed9 +STALL", text)


def test_several_members_are_counted() -> None:
    rows = [row("ingest", n, 0, 0.0, member=name) for n, name in enumerate(("a", "b", "a"))]
    assert "2 members" in shown(rows)


def test_notes_say_what_is_the_matter() -> None:
    assert [text for text, _ in notes(MIXED, [("learn", "examples")])] == [
        "STALL: ingest on events, partitions 1, 2: records wait; a worker has them, and commits nothing",
        "STOP: log on events, all partitions: records wait, and no worker has them",
        "log on events: 7 records were deleted before it read them",
        "learn reads examples, which does not exist: headrace topics create",
    ]
    assert notes([row("a", 0, 0, 0.0, verdict=Verdict.OK)]) == []
    many = [row("a", n, 9, 60.0, verdict=Verdict.STOP if n else Verdict.OK) for n in range(12)]
    assert "a on events, partitions 1, 2, 3, 4, 5, 6, 7, 8 and 3 more: records wait" in notes(many)[0][0]
    assert "a on events, partition 1: records wait" in notes(many[:2])[0][0]
    assert "it falls behind" in shown([row("a", 0, 9, 60.0, verdict=Verdict.WARN)])
    assert "went back" in shown([row("a", 0, 9, 60.0, verdict=Verdict.REWIND)])


@pytest.mark.parametrize(
    ("trend", "text"),
    [(None, "-"), (0.0, "0/s"), (-0.04, "0/s"), (0.5, "+0.5/s"), (-9.96, "-10.0/s"), (1234.5, "+1,234/s")],
)
def test_trend_text(trend: float | None, text: str) -> None:
    assert trend_text(trend) == text


@pytest.mark.parametrize(
    ("member", "text"),
    [
        (None, "-"),
        (FAUST, "aca4af87bed9"),
        ("w-1" + FAUST[12:], "aca4af87bed9"),
        ("x", "x"),
    ],
)
def test_member_text(member: str | None, text: str) -> None:
    assert member_text(member) == text


def test_the_object_has_everything_once() -> None:
    made = json.loads(json.dumps(lag_object(MIXED, [("learn", "examples")], 100.12345)))
    assert (made["at_s"], made["verdict"]) == (100.123, "STOP")
    assert [(a["agent"], a["verdict"], a["records"]) for a in made["agents"]] == [
        ("ingest", "STALL", 1209),
        ("log", "STOP", 40),
    ]
    assert [r["partition"] for r in made["partitions"]] == [0, 1, 2, 0]
    assert made["partitions"][3]["seconds"] is None
    assert made["partitions"][0]["member"] == FAUST
    assert made["missing"] == [{"agent": "learn", "topic": "examples"}]
    assert lag_object(ROWS, [], 1.0)["verdict"] == "?"
    assert lag_object([], [], 1.0)["verdict"] == "OK"
