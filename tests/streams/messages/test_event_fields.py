"""The compiled pass over the events of a batch, against the plain checks, event by event."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.errors import RejectedError
from headrace.streams.messages import event_fields as fields
from headrace.streams.messages.codec import check_key
from headrace.streams.messages.columns import CLOCK_SLACK_MS, KIND, Limits, event_columns, read_events
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context, Event, check_event
from headrace.streams.topics.placement import FORWARDED
from headrace.streams.topics.sender import partition_of

NOW = 1_764_000_000_000
LIMITS = Limits(partitions=3, lateness_ms=60_000, future_ms=5_000)
AGES = st.sampled_from([-(2**40), -1, 0, 1, 59_999, 60_001, 10**6]) | st.integers(-10_000, 70_000)


@st.composite
def told(draw: st.DrawFn) -> tuple[Event, Any]:
    """Draw an event and its record."""
    user = draw(st.sampled_from(["u1", "u2", "nutzer-ä", "x" * 64]))
    timestamp = draw(st.sampled_from([NOW, NOW + CLOCK_SLACK_MS + 1, NOW + CLOCK_SLACK_MS, 0, -1]))
    event = Event(
        draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)),
        draw(st.sampled_from(["click", "dwell", "hide"])),
        user,
        draw(st.sampled_from(["i1", "i2"])),
        max(0, timestamp - draw(AGES)),
        draw(st.none() | st.sampled_from([0, 499, 500, 86_400_000])),
        context=Context(draw(st.sampled_from(["", "BR"])), age=draw(st.none() | st.integers(0, 150))),
        scope=draw(st.sampled_from(["item", "creator"])),
    )
    key = draw(st.sampled_from([user.encode(), user.encode(), b"somebody-else", b"", None]))
    headers = draw(st.sampled_from([(), [("trace", b"1")], [("trace", b"1"), (FORWARDED, b"events/1/5")]]))
    offset = draw(st.integers(0, 2**40))
    return event, SimpleNamespace(key=key, timestamp=timestamp, offset=offset, headers=headers)


def verdict(event: Event, record: Any, partition: int) -> int:
    """Return the verdict by the plain checks."""
    try:
        if record.key:
            check_key(record, "user_id", event.user_id)
        check_event(event, record.timestamp, LIMITS.lateness_ms, LIMITS.future_ms)
    except RejectedError as exc:
        return {
            "wrong_key": fields.WRONG_KEY,
            "missing_field": fields.MISSING,
            "too_late": fields.TOO_LATE,
            "from_the_future": fields.FUTURE,
        }[exc.reason]
    if record.timestamp > NOW + CLOCK_SLACK_MS:
        return fields.CLOCK
    right = record.key and partition_of(record.key, LIMITS.partitions) == partition
    return fields.RIGHT if right else fields.MISPLACED


@given(st.lists(told(), max_size=30), st.integers(0, 2))
def test_one_pass_says_what_the_plain_checks_say(batch: list[tuple[Event, Any]], partition: int) -> None:
    events, records = [e for e, _ in batch], [r for _, r in batch]
    got = read_events(events, records, partition, LIMITS, NOW)
    assert got.verdict.tolist() == [verdict(e, r, partition) for e, r in batch]
    assert got.right.tolist() == [v == fields.RIGHT for v in got.verdict.tolist()]
    expected = event_columns(events, [r.offset for r in records])
    for name in type(expected).__dataclass_fields__:
        mine, theirs = getattr(got.columns, name), getattr(expected, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    assert got.event_id.tolist() == [hash64(e.event_id) for e in events]
    assert got.timestamp.tolist() == [r.timestamp for r in records]
    assert got.sent_on.tolist() == [any(n == FORWARDED for n, _ in r.headers) for r in records]


def test_every_event_has_its_record() -> None:
    with pytest.raises(ValueError, match="0 records of 1 events"):
        read_events([Event("e", "click", "u", "i", NOW)], [], 0, LIMITS, NOW)
    assert len(read_events([], [], 0, LIMITS, NOW).verdict) == 0
    assert set(KIND) >= {"click", "dwell", "hide"}
