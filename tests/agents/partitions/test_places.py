"""Users whose rows lack the hash of their partition: a row that gets it has changed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from shown_states import shown_state
from strategies import T0, record

from headrace.agents.partitions.users import UserPartition
from headrace.models.state import users
from headrace.serving.catalog import Catalog
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.columns import Limits, read_events
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import PackedRows, RowTable, unpack
from headrace.streams.topics.murmur2 import partitions_of_keys

SETTINGS = Settings(partitions=1)


def click(user: str, offset: int) -> Any:
    body = {"event_id": f"{offset}", "type": "click", "user_id": user, "item_id": "i", "ts": T0}
    return record(msgspec.json.encode(body), key=user.encode(), offset=offset, timestamp=T0)


def apply(part: UserPartition, records: list[Any]) -> None:
    decoded = Decoder(Event, 1000).batch(records)
    limits = Limits(1, SETTINGS.lateness_ms, SETTINGS.future_ms)
    part.events(records, read_events(decoded.values, decoded.records, 0, limits, T0), Catalog())


def places(packed: PackedRows) -> dict[int, int]:
    rows, sound = unpack(packed, users.ROW)
    assert sound.all()
    return dict(zip(rows["key"].tolist(), rows["place"].tolist(), strict=True))


def test_a_place_that_a_redelivered_record_tells_is_written() -> None:
    """The record of one user was counted before; that of another in the same batch is new."""
    table: RowTable = users.new_table()
    (row,) = table.take([hash64("known")])
    table.data["offset"][row] = 5  # without a place, as a row that was migrated and written again
    part = UserPartition([StatePartition(0, table), shown_state()], SETTINGS)
    apply(part, [click("known", 4), click("new", 6)])
    wanted = {
        hash64(user): int(partitions_of_keys([user.encode()], users.PLACED)[0]) | users.PLACED
        for user in ("known", "new")
    }
    shown, _, out = part.take()
    assert places(shown) == wanted
    assert places(part.changes(shown)[0].rows) == wanted
    assert np.concatenate(out)["kind"].tolist() == [1], "the redelivered record counts no more"
    apply(part, [click("known", 4), click("new", 6)])
    assert len(part.take()[0]) == 0
