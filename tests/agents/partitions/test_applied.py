"""What a partition of users says it has of `events` and `users`, also of records that no row tells of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from shown_states import shown_state
from strategies import T0, record

from headrace.agents.partitions.users import UserPartition
from headrace.agents.stage.placing import sent_on_again
from headrace.models.state import users as user_state
from headrace.serving.catalog import Catalog
from headrace.serving.store.applied import Applied, Reached
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.columns import Limits, read_events
from headrace.streams.messages.schemas import Event, UserProfile
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import RowTable
from headrace.streams.topics.placement import FORWARDED
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.places import Place

SETTINGS = Settings(partitions=1)
LIMITS = Limits(1, SETTINGS.lateness_ms, SETTINGS.future_ms)


class Worker:
    """A partition that gets one record in each batch."""

    def __init__(self, meta: dict[bytes, bytes] | None = None, base: int = 0) -> None:
        state = StatePartition(0, RowTable(user_state.ROW, user_state.BLANK[()]))
        for key, value in (meta or {}).items():
            state.set_meta(key, value)
        self.part, self.base = UserPartition([state, shown_state()], SETTINGS), base

    def _batch(self, topic: str, one: Any) -> RecordBatch:
        place = Place(one.offset + 1, self.base, one.offset)
        return RecordBatch(topic, 0, [one], self.base, place)

    def event(
        self, offset: int, event_id: str, *, origin: bytes = b"", key: bytes = b"u", **more: Any
    ) -> None:
        body = {"event_id": event_id, "type": "click", "user_id": "u", "item_id": "i", "ts": T0}
        one = record(msgspec.json.encode(body), key=key, offset=offset, timestamp=T0)
        one.headers = ((FORWARDED, origin),) if origin else ()
        decoded = Decoder(Event, 1000).batch([one])
        events = read_events(decoded.values, decoded.records, 0, LIMITS, T0 + DAY_MS)
        sent_on_again("events", decoded.records, events, self.part.origins)
        self.part.events([one], events, Catalog(), self.base)
        self.part.seen(self._batch("events", one))

    def profile(self, offset: int, profile: UserProfile | None) -> None:
        one = record(b"", key=b"u", offset=offset, timestamp=T0)
        self.part.user_record("u", profile, one, self.base)
        self.part.seen(self._batch("users", one))

    def said(self) -> tuple[Applied, bool]:
        aside = self.part.aside
        return self.part.applied(), aside


def test_a_new_partition_has_nothing() -> None:
    assert Worker().said() == (Applied(), False)


def test_it_has_what_it_applied() -> None:
    worker = Worker()
    worker.event(4, "a")
    assert worker.said() == (Applied(Reached(4)), False), "the row tells of it"
    worker.profile(2, UserProfile("u"))
    assert worker.said() == (Applied(Reached(4), Reached(2)), False)


@pytest.mark.parametrize("what", ["retry", "refused", "sent on", "forgotten"])
def test_what_no_row_tells_of_is_to_be_said_at_once(what: str) -> None:
    worker = Worker()
    worker.event(4, "a")
    worker.said()
    if what == "retry":
        worker.event(5, "a")
    elif what == "refused":
        worker.event(5, "b", key=b"another")
    elif what == "sent on":
        worker.event(5, "b", origin=b"events/3/17")
    else:
        worker.profile(5, None)
    applied, aside = worker.said()
    assert aside
    assert (applied.users if what == "forgotten" else applied.events).last == 5
    assert worker.said() == (applied, False), "once"


def test_it_says_what_was_sent_on_to_it() -> None:
    worker = Worker()
    worker.event(0, "a", origin=b"events/3/17")
    worker.event(1, "b", origin=b"events/12/5")
    worker.event(2, "c", origin=b"events/3/18")
    worker.event(3, "d", origin=b"events/3/18")
    assert worker.said()[0].events == Reached(3, 0, {3: 18, 12: 5})
    assert worker.said()[0].users.elsewhere == {}


def test_offsets_are_effective_ones() -> None:
    worker = Worker(base=1000)
    worker.event(4, "a")
    assert worker.said()[0].events == Reached(1004, 1000)


def test_whoever_takes_it_over_has_what_is_durable() -> None:
    worker = Worker(base=1000)
    worker.event(4, "a", origin=b"events/3/17")
    applied, _ = worker.said()
    worker.part.changes()
    heir = Worker(dict(worker.part.states[0].meta))
    assert heir.said() == (applied, False)
