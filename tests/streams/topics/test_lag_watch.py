"""What the looks of one command add up to, partition by partition."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from headrace.agents import join_outcomes
from headrace.streams.settings import Settings
from headrace.streams.topics import lag_pace
from headrace.streams.topics.flow import group_reads
from headrace.streams.topics.lag import LagRow, Look, rows, with_member
from headrace.streams.topics.lag_members import UNKNOWN, Members, members_from
from headrace.streams.topics.lag_pace import pace
from headrace.streams.topics.lag_verdict import Pace, Verdict
from headrace.streams.topics.lag_watch import LagWatch
from headrace.streams.topics.names import Topics

P0 = TopicPartition("events", 0)
PACE = Pace(wait_s=4.0, quiet_s=10.0)


def watch() -> LagWatch:
    return LagWatch(lambda _role, _topic: PACE)


def look(
    at_s: float, *found: tuple[int, int], written: dict[int, int] | None = None, held: bool = True
) -> Look:
    """Return a look at partitions 0, 1 ... of ``events``: (committed, end) of each; all begin at 0.

    ``written``: offset -> timestamp (ms) of partition 0.
    """
    told = {(P0, offset): at_ms for offset, at_ms in (written or {}).items()}
    tps = [TopicPartition("events", n) for n in range(len(found))]
    committed = {"g": {tp: offset for tp, (offset, _) in zip(tps, found, strict=True)}}
    ends = {tp: end for tp, (_, end) in zip(tps, found, strict=True)}
    made = rows(committed, dict.fromkeys(tps, 0), ends, told, at_s * 1000, prefix="")
    owner = members_from("Stable", [member(*((tp.topic, tp.partition) for tp in tps if held))])
    return Look(at_s, [with_member(row, owner) for row in made], told, [], at_s)


def member(*held: tuple[str, int], name: str = "faust-1") -> tuple[str, str, str, bytes, bytes]:
    """Return a member as the broker describes it."""
    assignment = ConsumerProtocolMemberAssignment(0, [(topic, [number]) for topic, number in held], b"")
    return name, "faust", "/10.0.0.7", b"", assignment.encode()


def test_the_broker_gives_the_age_and_need_not_be_asked_again():
    seen = watch()
    (row,) = seen.add(look(100.0, (5, 9), written={5: 99_000}))
    assert (row.seconds, row.verdict) == (1.0, Verdict.OK)
    assert (P0, 5) in seen.known()
    (row,) = seen.add(look(102.0, (5, 12)))
    assert row.seconds == 3.0
    seen.add(look(104.0, (9, 12)))
    assert (P0, 5) not in seen.known(), "it is read"


def test_an_age_that_was_not_read_is_interpolated():
    seen = watch()
    (row,) = seen.add(look(100.0, (5, 10)))
    assert row.seconds is None, "nothing is known before the first look"
    (row,) = seen.add(look(110.0, (5, 21)))
    assert row.seconds is None
    (row,) = seen.add(look(112.0, (15, 21)))
    assert row.seconds == pytest.approx(112 - 105)


def test_every_partition_has_its_own_verdict_and_trend():
    seen = watch()
    for n in range(7):
        got = seen.add(look(100.0 + 2 * n, (5, 9 + n), (10 * n, 10 * n), written={5: 1_000}))
    assert [r.verdict for r in got] == [Verdict.STALL, Verdict.OK]
    assert got[0].trend == pytest.approx(0.5)
    assert got[1].trend == 0.0
    assert [(r.held, r.member, r.host) for r in got] == [(True, "faust-1", "10.0.0.7")] * 2


def test_a_partition_without_a_member_stops():
    seen = watch()
    for n in range(7):
        (row,) = seen.add(look(100.0 + 2 * n, (5, 9), written={5: 1_000}, held=False))
    assert (row.verdict, row.held, row.member) == (Verdict.STOP, False, None)


def test_more_looks_say_no_more_when_nothing_is_late_or_the_worst_is_known():
    seen = watch()
    seen.add(look(100.0, (9, 9), (5, 9)))
    assert not seen.is_settled(), "the age of partition 1 is not known"
    seen.add(look(102.0, (9, 9), (9, 9)))
    assert seen.is_settled()
    seen.add(look(104.0, (9, 9), (7, 9)))
    assert seen.is_settled(), "it went back"


def test_a_partition_that_is_gone_is_forgotten():
    seen = watch()
    seen.add(look(100.0, (9, 9), (5, 9)))
    assert not seen.is_settled()
    (row,) = seen.add(look(102.0, (9, 9)))
    assert seen.is_settled()
    assert row.verdict is Verdict.OK
    back = seen.add(look(104.0, (9, 9), (1, 9)))
    assert [r.verdict for r in back] == [Verdict.OK, Verdict.UNKNOWN], "no rewind: it is new"


# --- who has a partition ---


def test_members_are_told_by_a_stable_group():
    described = [member(("events", 0)), member(("events", 1), ("items", 1), name="faust-2")]
    told = members_from("Stable", described)
    found = [told.get(*place) for place in (("events", 0), ("events", 1), ("items", 1), ("items", 0))]
    assert [m and m.id for m in found] == ["faust-1", "faust-2", "faust-2", None]
    assert found[0] is not None
    assert found[0].host == "10.0.0.7"


@pytest.mark.parametrize("state", ["PreparingRebalance", "CompletingRebalance", "something new"])
def test_nothing_is_known_of_members_in_a_rebalance(state: str):
    assert members_from(state, [("faust-1", "faust", "/h", b"", b"")]) == UNKNOWN


@pytest.mark.parametrize("state", ["Empty", "Dead"])
def test_a_group_without_members_has_none(state: str):
    assert members_from(state, []) == Members(known=True)


def test_an_assignment_that_cannot_be_read_is_not_known():
    assert members_from("Stable", [("faust-1", "faust", "/h", b"", b"\x00")]) == UNKNOWN
    nobody = members_from("Stable", [("faust-1", "faust", "/h", b"", b"")])
    assert nobody == Members(known=True), "a member without partitions"


def test_what_is_not_known_of_members_is_absent():
    row = LagRow("g", "g", "events", 0, 1, 2, 1, 0.0)
    assert with_member(row, UNKNOWN).held is None
    assert with_member(row, Members(known=True)).held is False


# --- what is lawful ---


def test_every_group_has_a_pace():
    settings = Settings()
    topics = Topics(settings)
    found = {
        (role, name): pace(settings, role, getattr(topics, name))
        for role, names in group_reads().items()
        for name in names
    }
    assert found["serve", "requests"] == found["learn", "examples"] == Pace(2.0, 5.0)
    assert found["ingest", "events"] == found["aggregate", "item_events"] == Pace(8.0, 11.0)
    assert found["log", "examples"] == Pace(22.0, 25.0)
    assert found["learn", "events"] == found["learn", "impressions"]
    assert 600 < found["learn", "events"].wait_s < 620
    assert {role for role, _ in found} == {"ingest", "aggregate", "learn", "log", "serve"}


def test_the_join_acknowledges_in_as_many_slices_as_its_pace_says():
    assert join_outcomes.SLICES == lag_pace.SLICES
