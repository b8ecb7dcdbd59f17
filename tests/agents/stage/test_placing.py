"""Events in the wrong partition: whole batches are judged and sent on as each record is alone."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import T0

from headrace.agents.partitions.origins import Origins
from headrace.agents.stage.forwarding import Forwarding
from headrace.agents.stage.placing import Placing
from headrace.agents.wiring import Wiring
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock
from headrace.streams.messages.columns import Limits
from headrace.streams.messages.event_reader import EventReader
from headrace.streams.settings import Settings
from headrace.streams.topics.placement import FORWARDED, Origin
from headrace.streams.topics.record_batch import record_batch
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.gathering import RawRecords
from headrace.streams.transport.record_list import RecordList

PARTITIONS = 3
USERS = [f"user-{n}" for n in range(8)]
SENT_ON = [b"events/0/5", b"events/0/6", b"events/2/5", b"events/9/5", b"other/0/5", b"forged", None]
HEADERS = st.sampled_from([[], [], [("trace", b"1"), ("", None)]]) | st.lists(
    st.tuples(st.just(FORWARDED), st.sampled_from(SENT_ON)) | st.just(("trace", None)), min_size=1, max_size=3
)
#: User, whether the key is the user's (else none, empty or another), ms after ``T0``, headers.
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(USERS),
        st.sampled_from(["user", "user", "user", "user", "none", "empty", "other", "broken", "tombstone"]),
        st.integers(0, 5) | st.sampled_from([10**8, -(10**8), 3 * 10**8]),
        HEADERS,
    ),
    min_size=1,
    max_size=12,
)


def fetched(told: list[Any]) -> RecordList:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for n, (user, kind, after, headers) in enumerate(told):
        value = msgspec.json.encode(
            {"event_id": f"{n}", "type": "click", "user_id": user, "item_id": "i", "ts": T0 + min(after, 5)}
        )
        key = {"none": None, "empty": b"", "other": b"another"}.get(kind, user.encode())
        value = {"broken": value[:-1], "tombstone": None}.get(kind, value)
        builder.append(n, T0 + after, key, value, headers)
    source = RawRecords(bytes(builder.build()))
    gathering = source.gathering(())
    gathering.add(source.next_batch(), 0)
    records = gathering.records()
    assert isinstance(records, RecordList)
    return records


def placed(records: Any, origins: Origins, refuse: bool) -> tuple[Any, ...]:
    """Return verdicts, rejects, the records sent on by partition, how many they are, and the marks."""
    s = Settings(partitions=PARTITIONS, wrong_partition="refuse" if refuse else "forward")
    sender = BatchSender(s)
    forwarding = Forwarding(Wiring(s, sender, sender, MemoryStore(), ManualClock(T0)))
    reader = EventReader(s.max_event_bytes, Limits(PARTITIONS, s.lateness_ms, s.future_ms))
    read, events = reader.read(records, 1, T0)
    batch = RecordBatch("events", 1, records, base=1000)
    rejects = Placing(forwarding._wiring, forwarding).events(batch, read, events, origins)
    taken = {
        place: [record_batch(*body[:3], newest_ms=body[3]) for body in sent.take()]
        for place, sent in forwarding.take().items()
    }
    told = [(record.offset, error.reason, error.field) for record, error in rejects]
    return events.verdict.tolist(), told, taken, forwarding.count["events"], dict(origins.records())


@given(EVENTS, st.booleans())
@settings(max_examples=300)
def test_a_batch_is_judged_as_its_records_are_one_by_one(told: list[Any], refuse: bool) -> None:
    records = fetched(told)
    many, single = placed(records, Origins({}), refuse), placed(list(records), Origins({}), refuse)
    assert many[0] == single[0]
    assert sorted(many[1]) == sorted(single[1])
    assert many[2:] == single[2:]


@given(EVENTS)
def test_records_of_a_partition_are_sent_on_in_their_order(told: list[Any]) -> None:
    """Else the right partition would take an earlier one for one that came again."""
    *_, taken, count, _ = placed(fetched(told), Origins({}), False)
    sent = 0
    for bodies in taken.values():
        found = [record for body in bodies for record in DefaultRecordBatch(body)]
        offsets = [int(dict(record.headers)[FORWARDED].rsplit(b"/", 1)[1]) for record in found]
        assert offsets == sorted(set(offsets))
        assert min(offsets) >= 1000
        sent += len(found)
    assert sent == count


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=20), st.integers(0, 20))
def test_origins_of_many_are_fresh_as_one_by_one(pairs: list[tuple[int, int]], cut: int) -> None:
    mark = {b"from:events/2": (4).to_bytes(8, "little")}
    many, single = Origins(mark), Origins(mark)
    for some in (pairs[:cut], pairs[cut:]):
        partitions, offsets = np.array(some, np.int64).reshape(-1, 2).T
        got = many.fresh_ones("events", partitions, offsets).tolist()
        assert got == [single.fresh(Origin("events", *pair)) for pair in some]
        assert dict(many.records()) == dict(single.records())
