"""Which records move the stream time of a partition: the worker and the oracle agree, also about bad ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from shown_states import shown_state
from strategies import T0, record

from headrace.agents.partitions.users import UserPartition
from headrace.models.state import users as user_state
from headrace.oracle.features.judge import judge
from headrace.oracle.records.frames import raw_records
from headrace.oracle.records.places import Places
from headrace.oracle.records.readers import read_events as read_by_oracle
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.columns import Limits, read_events
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import StatePartition
from headrace.streams.topics.murmur2 import partitions_of_keys

LATER = 500
SETTINGS = Settings(partitions=2, dedup_window_ms=1000, max_event_bytes=1024)
HERE, ELSEWHERE = (
    next(user for user in "abcdefgh" if partitions_of_keys([user.encode()], 2)[0] == number)
    for number in (0, 1)
)


def body(user: str | None, **changes: Any) -> bytes:
    told = {"event_id": "e", "type": "click", "user_id": user, "item_id": "i", "ts": T0, **changes}
    return json.dumps({name: value for name, value in told.items() if value is not None}).encode()


def worker(records: list[Any]) -> int:
    part = UserPartition([StatePartition(0, user_state.new_table()), shown_state()], SETTINGS)
    decoded = Decoder(Event, SETTINGS.max_event_bytes).batch(records)
    limits = Limits(2, SETTINGS.lateness_ms, SETTINGS.future_ms)
    part.duplicates(records, read_events(decoded.values, decoded.records, 0, limits, T0))
    return part._newest - T0


def oracle(records: list[Any]) -> int:
    places = Places({"events": 2}, {"events": "user_id"}, SETTINGS.max_event_bytes)
    read = read_by_oracle(
        places.judge(raw_records("events", 0, records)),
        max_bytes=SETTINGS.max_event_bytes,
        lateness_ms=SETTINGS.lateness_ms,
        future_ms=SETTINGS.future_ms,
    )
    return int(judge(read, 1000)["stream"][-1]) - T0


@pytest.mark.parametrize(
    ("key", "value", "moved"),
    [
        (HERE, body(HERE), LATER),
        (HERE, body(HERE, type="other"), LATER),
        (HERE, body(HERE, ts=T0 - 2 * SETTINGS.lateness_ms), LATER),
        (HERE, body(ELSEWHERE), LATER),
        (HERE, b"{", LATER),
        (HERE, b" " * 2000, LATER),
        (HERE, None, LATER),
        (ELSEWHERE, body(ELSEWHERE), 0),
        (ELSEWHERE, b"{", 0),
        # Without a key: sent on when it names somebody, else refused. It is in no partition of its own.
        (None, body(HERE), 0),
        (None, body(HERE, type="other"), 0),
        (None, body(None), 0),
        (None, body("u" * 65), 0),
        (None, b"{", 0),
        (None, None, 0),
        ("", body(None), 0),
    ],
)
def test_a_record_moves_the_time_where_its_key_belongs(
    key: str | None, value: bytes | None, moved: int
) -> None:
    first = record(body(HERE), key=HERE.encode(), offset=0, timestamp=T0)
    second = record(value, key=None if key is None else key.encode(), offset=1, timestamp=T0 + LATER)
    assert (worker([first, second]), oracle([first, second])) == (moved, moved)
