"""Joining impressions and events."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.agents.partitions.outcomes import IDLE_MS, JoinPartition
from headrace.agents.stage.hold import AckHold, release
from headrace.models.features.spec import SPEC
from headrace.models.outcomes import OutcomeJoin
from headrace.streams.errors import RejectedError
from headrace.streams.messages.schemas import Event, Impression

WAIT = 1000


def shown(
    request: str = "r", user: str = "u", items: tuple[str, ...] = ("a", "b"), ts: int = 0
) -> Impression:
    n = len(items)
    features = np.arange(n * len(SPEC), dtype="<f4")
    return Impression(
        request, user, "home", ts, "BR", "tv", "v1", "o1", SPEC.version, list(items),
        [0.9] * n, [False] * n, [0.5] * n, features.tobytes(),
    )  # fmt: skip


def event(item: str, kind: str = "click", user: str = "u", request: str = "r", **extra: int) -> Event:
    return Event("e", kind, user, item, 0, request_id=request, **extra)  # type: ignore[arg-type]


def test_every_slot_becomes_one_example_with_its_own_features_and_outcome() -> None:
    join = OutcomeJoin(WAIT)
    join.shown(shown(), 0)
    join.happened([event("b"), event("b", "dwell", dwell_ms=1500), event("b", "save")], 10)
    join.happened([event("a", "hide")], 20)
    assert join.close(WAIT - 1, WAIT) == []
    first, second = join.close(WAIT, WAIT)
    assert (first.clicked, first.hidden, second.clicked, second.liked, second.dwell_ms) == (
        False,
        True,
        True,
        True,
        1500,
    )
    assert [first.position, second.position] == [0, 1]
    assert np.frombuffer(second.features, "<f4")[0] == len(SPEC)
    assert join.close(10**6, 10**6) == []


def test_events_may_be_read_before_their_impression() -> None:
    join = OutcomeJoin(WAIT)
    join.happened([event("a")], 50)
    join.shown(shown(), 0)
    assert [e.clicked for e in join.close(WAIT, WAIT)] == [True, False]


def test_events_wait_for_an_impression_that_is_read_late() -> None:
    """Impressions lag behind events by far more than the wait: the outcome must still be there."""
    join = OutcomeJoin(WAIT)
    join.happened([event("a")], 50)
    assert join.close(events_to=100 * WAIT, shown_to=0) == []
    join.shown(shown(), 0)
    assert [e.clicked for e in join.close(100 * WAIT, 100)] == [True, False]


def test_two_users_may_use_the_same_request_id() -> None:
    join = OutcomeJoin(WAIT)
    join.shown(shown("1", "u"), 0)
    join.happened([event("a", user="other", request="1")], 10)
    assert [e.clicked for e in join.close(WAIT, WAIT)] == [False, False]


def test_a_replayed_impression_is_opened_once() -> None:
    join = OutcomeJoin(WAIT)
    join.shown(shown(), 0)
    join.shown(shown(), 0)
    assert len(join.close(WAIT, WAIT)) == 2


def test_outcomes_nobody_asked_for_are_forgotten() -> None:
    join = OutcomeJoin(WAIT)
    for i in range(100):
        join.happened([event("a", request=f"r{i}")], i)
    join.close(10 * WAIT, 10 * WAIT)
    join.shown(shown("r5"), 10 * WAIT)
    assert [e.clicked for e in join.close(20 * WAIT, 20 * WAIT)] == [False, False]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"spec": "other"}, "spec"), ({"features": b"xx"}, "features"), ({"scores": [1.0]}, "item_ids")],
)
def test_an_impression_that_does_not_fit_is_rejected(change: dict[str, object], field: str) -> None:
    impression = shown()
    for name, value in change.items():
        setattr(impression, name, value)
    with pytest.raises(RejectedError) as caught:
        OutcomeJoin(WAIT).shown(impression, 0)
    assert caught.value.field == field


# -- when time moves on


def test_after_an_outage_nothing_closes_before_its_events_were_read() -> None:
    """Records of ten minutes ago, read now: wall time must wait until both topics are at their end."""
    then, now = 0, 600_000
    part = JoinPartition(WAIT, now)
    part.join.shown(shown(), then)
    part.shown.read(then, now)
    part.events.idle(now + 5 * IDLE_MS, at_end=False)
    assert part.advance() == []
    part.join.happened([event("a")], then + 10)
    part.events.read(then + 10, now + 5 * IDLE_MS)
    assert part.advance() == []
    part.events.idle(now + 7 * IDLE_MS, at_end=True)
    assert [e.clicked for e in part.advance()] == [True, False]


def test_a_producer_whose_clock_is_ahead_closes_nothing_early() -> None:
    now = 50_000
    part = JoinPartition(WAIT, now)
    part.events.read(now + 30 * 60_000, now)
    part.join.shown(shown(), now)
    part.join.happened([event("a")], now + 10)
    assert part.advance() == []
    part.events.read(now + WAIT, now + WAIT)
    assert [e.clicked for e in part.advance()] == [True, False]


def test_batches_are_acked_only_when_both_topics_are_past_them() -> None:
    acked: list[str] = []
    part, held = JoinPartition(WAIT, 0), AckHold()
    held.add(lambda: acked.append("a"), 3, until=100 + WAIT)
    part.events.read(100 + WAIT, 100 + WAIT)
    assert held.take([3], until=part.read_to) == {}
    part.shown.read(100 + WAIT, 100 + WAIT)
    release(held.take([3], until=part.read_to))
    assert acked == ["a"]
