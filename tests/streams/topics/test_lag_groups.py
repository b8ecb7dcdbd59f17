"""Which groups `headrace lag` shows, and what it says of records that were deleted unread."""

from __future__ import annotations

import re

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from command_line import plain_console
from fresh_topics import admin_of, make_topics
from transport_worker import committed_by

from headrace.console import lag_page
from headrace.console.lag import look
from headrace.streams.clock import now_ms
from headrace.streams.topics.lag import LagRow, lag, rows
from headrace.streams.topics.names import Topics

P0 = TopicPartition("events", 0)


def test_offsets_deleted_before_they_were_read_are_counted():
    (row,) = rows({"g": {P0: 3}}, {P0: 10}, {P0: 12}, {(P0, 10): 1_000}, 2_000, prefix="")
    assert (row.committed, row.records, row.deleted) == (3, 2, 7)
    (row,) = rows({"g": {P0: 10}}, {P0: 10}, {P0: 12}, {(P0, 10): 1_000}, 2_000, prefix="")
    assert row.deleted == 0
    (row,) = rows({"g": {P0: 3}}, {P0: 12}, {P0: 12}, {}, 2_000, prefix="")
    assert (row.records, row.seconds, row.deleted) == (0, 0.0, 9)


def test_what_was_deleted_before_the_first_commit_is_not_known():
    (row,) = rows({"g": {P0: -1}}, {P0: 10}, {P0: 12}, {(P0, 10): 1_000}, 2_000, prefix="")
    assert (row.records, row.deleted) == (2, 0)


def test_offsets_without_a_record_are_no_lag():
    (row,) = rows({"g": {P0: 3}}, {P0: 0}, {P0: 12}, {(P0, 3): None}, 2_000, prefix="")
    assert (row.records, row.seconds) == (0, 0.0)


@pytest.mark.parametrize("partitions", [False, True])
def test_the_table_has_a_column_for_them_when_there_are_any(partitions: bool):
    def shown(deleted: int) -> str:
        out, text = plain_console()
        made = [LagRow("headrace-log", "log", "examples", n, 5, 9, 4, 2.0, n * deleted) for n in (0, 1)]
        out.print(lag_page.lag_table(made, partitions=partitions))
        return text.getvalue()

    assert "deleted" not in shown(0)
    assert "deleted unread" in shown(1200)
    assert re.search(r"log +examples +.* 2\.0 s +1,200", shown(1200))


@pytest.mark.broker
@pytest.mark.parametrize("longer", ["headrace-x-", "headrace-ingest-", "headrace-"])
async def test_groups_of_a_prefix_that_begins_alike_are_not_ours(make_settings, sender, longer: str):
    ours = make_settings()
    theirs = ours.model_copy(update={"topic_prefix": ours.topic_prefix + longer})
    for settings in (ours, theirs):
        await make_topics(settings)
        tp = TopicPartition(Topics(settings).events, 0)
        await sender.send_many(tp.topic, [(b"k", b"a", now_ms(), ())] * 5, partition=0)
        await committed_by(settings, "ingest", {tp: 5 if settings is ours else 1})
    found = await lag(ours)
    assert {(r.group, r.agent) for r in found} == {(ours.name("headrace-ingest"), "ingest")}
    assert sum(r.records for r in found) == 0
    assert await look(ours, False, True, None, False, max_seconds=5) == 0, "nothing of ours is behind"
    assert sum(r.records for r in await lag(theirs)) == 4


@pytest.mark.broker
async def test_records_deleted_unread_are_shown(topics_made, sender, real_kafka):
    if not real_kafka:
        pytest.skip("the embedded broker does not delete records on request")
    settings = topics_made
    tp = TopicPartition(Topics(settings).events, 2)
    await sender.send_many(tp.topic, [(b"k", b"a", now_ms(), ())] * 50, partition=2)
    await committed_by(settings, "ingest", {tp: 12})
    async with admin_of(settings.brokers) as admin:
        await admin.delete_records({tp: RecordsToDelete(before_offset=38)})
    (row,) = [r for r in await lag(settings) if r.committed == 12]
    assert (row.partition, row.records, row.deleted) == (2, 12, 26)
