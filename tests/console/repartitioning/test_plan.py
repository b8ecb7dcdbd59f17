"""What growing needs, and what stands in its way: worked out from what the changelogs say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition

from headrace.agents.partitions.items import MARK
from headrace.agents.partitions.origins import Origins, mark_key
from headrace.agents.partitions.source_marks import SourceMark
from headrace.agents.partitions.users import MAX_SLOTS, SHOWN_SOURCE
from headrace.agents.stage.partitions import place_key
from headrace.console.repartitioning.carried import CARRIED, overtaken
from headrace.console.repartitioning.plan import Found, Largest, Plan, check_numbers
from headrace.console.repartitioning.tables import ALONE, EXPIRED, HOMELESS, Homes, tables_of
from headrace.console.repartitioning.waiting import left
from headrace.models.state import items, shown, users
from headrace.models.state.users import PLACED, SEQ_STEP
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import StatePartition
from headrace.streams.topics.growths import Growths
from headrace.streams.topics.names import Topics
from headrace.streams.topics.placement import Origin
from headrace.streams.transport.places import Place

T = Topics(Settings(topic_prefix="p-"))
ID = bytes(range(16))


def mark(source: int, number: int) -> tuple[bytes, bytes]:
    return MARK + source.to_bytes(2, "little"), SourceMark(number).value()


def found(**changes: Any) -> Found:
    """Two partitions; that of `events` was made again once, so its numbers are larger than its offsets."""
    events = [Place(100, 50, topic_id=ID), Place(7)]
    out = Found(
        users=[
            {
                place_key(T.events): events[n].encode(), place_key(T.impressions): Place(20 + n).encode(),
                place_key(T.items): Place(5).encode(), mark_key(T.events, 1 - n): (3).to_bytes(8, "little"),
            }
            for n in range(2)
        ],
        items=[{place_key(T.item_events): Place(1000 + n).encode()} for n in range(2)],
        largest=[Largest(149, 19, -1, 999), Largest(6, 20, 8, 1000)],
    )  # fmt: skip
    out.items[0] |= [mark(0, 150 * SEQ_STEP - 1), mark(SHOWN_SOURCE + 1, 21 * MAX_SLOTS - 1)]
    for name, value in changes.items():
        setattr(out, name, value)
    return out


def plan(new: int = 6, **changes: Any) -> Plan:
    return Plan(T, 2, new, found(**changes), {T.users: {0: 4, 1: 9}})


def place_of(meta: dict[bytes, bytes], topic: str) -> Place:
    place = Place.decode(meta[place_key(topic)])
    assert place is not None
    return place


def test_logs_are_cut_where_everything_was_counted() -> None:
    growth = plan().growth
    assert (growth.old, growth.new) == (2, 6)
    assert growth.cuts == {
        T.events: [100, 7], T.impressions: [20, 21], T.items: [5, 5], T.users: [4, 9],
        T.item_events: [1000, 1001],
    }  # fmt: skip
    assert list(plan().parents()) == [(0, [0, 2, 4]), (1, [1, 3, 5])]


def test_a_new_partition_goes_on_with_the_numbers_of_its_parent() -> None:
    meta = plan().users_meta(4)
    assert place_of(meta, T.events) == Place(0, 150, topic_id=ID)
    assert place_of(meta, T.impressions) == Place(0, 20)
    assert place_of(meta, T.users) == Place(0, 4)
    assert Growths.of(meta).all == (plan().growth,)
    origins = Origins(meta)
    assert not origins.fresh(Origin(T.events, 0, 149)), "the parent has counted it"
    assert origins.fresh(Origin(T.events, 0, 150))
    assert not origins.fresh(Origin(T.events, 1, 3)), "it was sent on to the parent"
    assert place_of(plan().items_meta(3), T.item_events) == Place(0, 1001)
    kept = {key: value for key, value in found().items[0].items() if key.startswith(MARK)}
    assert plan().items_meta(2).items() >= kept.items(), "what its sources have sent is known there, too"


def test_an_old_partition_keeps_its_places() -> None:
    meta = plan().users_meta(1)
    assert meta.items() >= found().users[1].items()
    assert Growths.of(meta).all == (plan().growth,)
    assert plan().items_meta(0) == found().items[0]


def test_a_second_growth_is_kept_beside_the_first() -> None:
    first = plan()
    metas = [first.users_meta(n) for n in range(6)]
    items_metas = [first.items_meta(n) for n in range(6)]
    again = Plan(T, 6, 12, Found(metas, items_metas, [Largest()] * 6), {})
    assert Growths.of(again.users_meta(10)).all == (first.growth, again.growth)
    assert place_of(again.users_meta(10), T.events) == Place(0, 150, topic_id=ID)


def test_a_clean_stop_has_no_faults() -> None:
    assert plan().faults() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"largest": [Largest(150), Largest()]}, "p-events-0"),
        ({"largest": [Largest(), Largest(shown=21)]}, "p-impressions-1"),
        ({"largest": [Largest(users=4), Largest()]}, "p-users-0"),
        ({"largest": [Largest(), Largest(item_events=1001)]}, "p-item-events-1"),
        ({"items": [{}, dict([mark(1, 7 * SEQ_STEP)])]}, "item events were counted"),
        ({"items": [{}, dict([mark(SHOWN_SOURCE, 20 * MAX_SLOTS)])]}, "item events were counted"),
        ({"homeless": 3}, "3 rows of users do not say"),
        ({"alone": 4}, "4 rows of what users were shown have no row of their user"),
    ],
)
def test_what_was_counted_and_would_be_read_again_is_a_fault(changes: Any, said: str) -> None:
    changes = {"largest": [Largest(), Largest()]} | changes
    (fault,) = plan(**changes).faults()
    assert said in fault


def test_partitions_grow_to_a_multiple_only() -> None:
    check_numbers(4, 4)
    check_numbers(4, 12)
    with pytest.raises(ConfigError, match="8, 12, 16"):
        check_numbers(4, 6)
    with pytest.raises(ConfigError, match="fewer"):
        check_numbers(4, 2)


def test_a_role_that_has_not_read_everything_is_named() -> None:
    ends = {TopicPartition("impressions", n): 10 for n in range(3)} | {TopicPartition("events", 0): 99}
    done = {TopicPartition("impressions", 0): 10, TopicPartition("impressions", 2): 4}
    assert left("ingest", "impressions", done, ends).startswith(
        "ingest has not read 16 records of impressions (partitions 1, 2)"
    )
    assert left("ingest", "impressions", ends, ends) == ""


# --- where rows belong


def test_rows_go_where_their_users_and_items_belong() -> None:
    table = users.new_table()
    rows = table.take(np.array([11, 12, 13], np.uint64))
    table.data["place"][rows] = [PLACED | 9, PLACED | 6, 0]
    homes = Homes(8)
    homes.learn(StatePartition(1, table))
    assert homes.of_users(table.data[rows]).tolist() == [1, 6, HOMELESS]
    of_lists = np.zeros(4, shown.ROW)
    of_lists["key"] = [12, 11, 13, 99]
    assert homes.of_shown(of_lists).tolist() == [6, 1, HOMELESS, ALONE]
    assert Homes(8).of_shown(of_lists).tolist() == [ALONE] * 4
    counts = np.zeros(2, items.ROW)
    counts["key"], counts["item"] = [3, 4], [2**64 - 1, 17]
    assert homes.of_items(counts).tolist() == [7, 1]
    pairs = np.zeros(1, tables_of(T)[-1].dtype)
    pairs["key"] = 21
    assert homes.of(tables_of(T)[-1], T, pairs).tolist() == [5]


@pytest.mark.parametrize(
    ("now", "newest", "to"),
    [
        (1000, 1000, [EXPIRED, ALONE, 1]),
        (750, 1000, [ALONE, ALONE, 1]),  # the newest row is dated ahead
        (1000, 750, [ALONE, ALONE, 1]),  # the clock is wrong
    ],
)
def test_what_a_user_was_shown_expires_without_the_row_of_the_user(
    now: int, newest: int, to: list[int]
) -> None:
    table = users.new_table()
    rows = table.take(np.array([11, 12], np.uint64))
    table.data["place"][rows], table.data["updated"][rows] = PLACED | 9, [newest, 1]
    homes = Homes(8, now, 600)
    homes.learn(StatePartition(1, table))
    of_lists = np.zeros(3, shown.ROW)
    of_lists["key"], of_lists["updated"] = [98, 99, 12], [399, 400, 1]
    assert homes.of_shown(of_lists).tolist() == to


# --- records that are carried over


class Record:
    def __init__(self, key: bytes, value: bytes, *, carried: bool = False) -> None:
        self.key, self.value = key, value
        self.headers = [(CARRIED, b"1")] if carried else []


def test_a_newer_record_before_the_carried_one_is_written_again() -> None:
    records = [
        Record(b"a", b"newer"), Record(b"b", b"old", carried=True), Record(b"a", b"old", carried=True),
        Record(b"c", b"old", carried=True), Record(b"c", b"newer"),
    ]  # fmt: skip
    assert {key: record.value for key, record in overtaken(records).items()} == {b"a": b"newer"}
    assert overtaken([*records, Record(b"a", b"newer")]) == {}
