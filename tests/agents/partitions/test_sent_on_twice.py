"""Records that were sent on twice: they count once, and are retries. Worked out by hand.

Window 10. Times and stream times after ``T0``; ``*`` is a copy of the same record of another partition::

    offset      0     1     2     3     4     5
    event id    a*    b     a*    a     c     a
    dated       0     6     0    14    20    26
    stream      0     6     6    14    20    26
                             |     |           |
      sent on twice: a is known at 6     |     12 after the retry: it counts
                8 after the copy: a retry, though 14 after the first
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
from shown_states import shown_state
from strategies import T0, record

from headrace.agents.partitions.origins import Origins
from headrace.agents.partitions.users import UserPartition
from headrace.agents.stage.placing import sent_on_again
from headrace.models.state import users as user_state
from headrace.oracle.features.judge import judge, remembered
from headrace.oracle.records.frames import raw_records
from headrace.oracle.records.places import Places
from headrace.oracle.records.readers import read_events as read_by_oracle
from headrace.serving.catalog import Catalog
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.columns import EventBatch, Limits, read_events
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import RowTable
from headrace.streams.topics.placement import FORWARDED, Origin

SETTINGS = Settings(dedup_window_ms=10)
LIMITS = Limits(1, SETTINGS.lateness_ms, SETTINGS.future_ms)
AGAIN = "forwarded_again"


class Sent(NamedTuple):
    event_id: str
    at: int
    copied: bool = False
    moved: int = 0  # a copy has the timestamp of its original; here it may have another


STORY = [Sent("a", 0, True), Sent("b", 6), Sent("a", 0, True), Sent("a", 14), Sent("c", 20), Sent("a", 26)]
VERDICTS = ["", "", AGAIN, "duplicate", "", ""]


def records_of(story: list[Sent]) -> list[Any]:
    out = []
    for offset, sent in enumerate(story):
        body = {
            "event_id": sent.event_id, "type": "click", "user_id": "u", "item_id": "i", "ts": T0 + sent.at
        }  # fmt: skip
        at = T0 + sent.at + sent.moved
        one = record(msgspec.json.encode(body), key=b"u", offset=offset, timestamp=at)
        one.headers = ((FORWARDED, b"events/1/5"),) if sent.copied else ()
        out.append(one)
    return out


def by_oracle(story: list[Sent]) -> Any:
    raw = Places({"events": 1}, {"events": "user_id"}).judge(raw_records("events", 0, records_of(story)))
    return judge(read_by_oracle(raw, max_bytes=1000, lateness_ms=DAY_MS, future_ms=DAY_MS), 10)


class Worker:
    """A partition that reads the story, one record in each batch."""

    def __init__(self) -> None:
        table = RowTable(user_state.ROW, user_state.BLANK[()])
        self.part = UserPartition([StatePartition(0, table), shown_state()], SETTINGS)

    def decode(self, records: list[Any], origins: Origins) -> EventBatch:
        decoded = Decoder(Event, 1000).batch(records)
        events = read_events(decoded.values, decoded.records, 0, LIMITS, T0 + DAY_MS)
        sent_on_again("events", records, events, origins)
        return events

    def counts(self, records: list[Any]) -> list[bool]:
        """Apply records; return which of them counted."""
        out = []
        for one in records:
            before = self.clicks()
            self.part.events([one], self.decode([one], self.part.origins), Catalog())
            out.append(self.clicks() > before)
        return out

    def remember(self, records: list[Any]) -> None:
        """Read what was before a take-over: which of it was sent on twice is known of these records alone."""
        self.part.duplicates(records, self.decode(records, Origins({})))

    def clicks(self) -> int:
        return int(self.part.state.rows.data["n_clicks"].sum())


def test_the_oracle_says_what_was_worked_out() -> None:
    judged = by_oracle(STORY)
    assert judged["verdict"].to_list() == VERDICTS
    assert (judged["stream"] - T0).to_list() == [0, 6, 6, 14, 20, 26]
    held = remembered(judged, 10)
    assert held == {hash64("c"): T0 + 20, hash64("a"): T0 + 26}


def test_so_does_a_worker() -> None:
    worker = Worker()
    assert worker.counts(records_of(STORY)) == [verdict == "" for verdict in VERDICTS]
    assert worker.clicks() == 4


def test_so_does_a_worker_that_has_read_only_the_window() -> None:
    """It takes over at offset 3, dated 14, and reads from the first record dated 4: not the first copy."""
    records, worker = records_of(STORY), Worker()
    worker.remember(records[1:3])
    assert worker.counts(records[3:]) == [verdict == "" for verdict in VERDICTS[3:]]


def test_a_record_that_was_sent_on_twice_moves_the_time() -> None:
    """As the first copy did, which has the same timestamp. At a stream time of 1000, b is forgotten."""
    story = [*STORY[:2], Sent("a", 0, True, 1000), Sent("b", 15)]
    assert by_oracle(story)["verdict"].to_list() == ["", "", AGAIN, ""]
    assert Worker().counts(records_of(story)) == [True, True, False, True]


def test_a_first_copy_that_is_delivered_again_moves_the_time_as_before() -> None:
    """The durable state knows the copy, so after a crash it looks like a second one. b is a retry, 10 later.

    Without the copy, b would be known at 3 and not at 12.
    """
    story = [Sent("a", 12, True), Sent("b", 3), Sent("b", 22)]
    assert by_oracle(story)["verdict"].to_list() == ["", "", "duplicate"]
    worker = Worker()
    worker.part.origins.fresh(Origin("events", 1, 5))
    assert worker.counts(records_of(story)) == [False, True, False]


def test_an_id_that_came_only_from_elsewhere_is_known() -> None:
    """Both copies, then the producer's own retry within the window: one click."""
    story = [Sent("a", 0, True), Sent("a", 0, True), Sent("a", 5)]
    assert by_oracle(story)["verdict"].to_list() == ["", AGAIN, "duplicate"]
    worker = Worker()
    assert worker.counts(records_of(story)) == [True, False, False]
    assert np.array_equal(worker.part.dedup.fresh(*_seen("a", 5)), [False])


def _seen(event_id: str, at: int) -> tuple[Any, Any]:
    return np.array([hash64(event_id)], np.uint64), np.array([T0 + at], np.int64)
