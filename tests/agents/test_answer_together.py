"""Batches of several partitions that are answered together."""

from __future__ import annotations

from typing import Any

import pytest
from serve_stage import Broker, Rec, batch, body, stage_on

from headrace.streams.topics.dead_letters import read_dead_letter
from headrace.streams.transport.batches import Batches, RecordBatch, chunks


def letters(broker: Broker) -> list[tuple[str, int, int]]:
    records = [Rec(r[1], r[0], headers=r[3]) for r in broker.of("dead-letters")]
    return sorted((x.reason, x.partition, x.offset) for x in map(read_dead_letter, records))


def named(partition: int, *names: str, **changes: Any) -> RecordBatch:
    return batch(*(Rec(body(request_id=name, **changes)) for name in names), partition=partition)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 100])
def test_chunks_have_all_records_and_their_batches(most: int) -> None:
    parts = [named(p, *(f"{p}-{n}" for n in range(size))) for p, size in enumerate((3, 1, 5))]
    all_ = Batches(parts)
    assert len(all_) == 9
    made = list(chunks(all_, most))
    sizes = [sum(len(records) for _, records in chunk) for chunk in made]
    assert sizes[:-1] == [most] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= most
    told = [(part, r) for chunk in made for part, records in chunk for r in records]
    assert told == [(part, r) for part in parts for r in part]
    assert next(chunks(parts[2], most))[0][0] is parts[2]


async def test_all_are_answered_and_bad_ones_are_dead_letters_of_their_partition() -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    reads, read_several = [], stage._rows.read_several

    async def counted(groups: Any) -> Any:
        reads.append([len(keys) for _, keys in groups])
        return await read_several(groups)

    stage._rows.read_several = counted  # type: ignore[method-assign]
    lost = [("reply_to", b"rec-replies-nope"), ("correlation_id", b"2")]
    todo = Batches(
        [
            batch(Rec(body(request_id="a")), Rec(b"{"), partition=3),
            batch(Rec(body(request_id="b")), Rec(body(request_id="c"), headers=lost), partition=5),
            batch(Rec(body(n=0)), Rec(body(request_id="d")), Rec(body(), headers=lost), partition=0),
        ]
    )
    await stage.finish(todo, await stage.answer(todo))
    told = "".join((r[1] or b"").decode() for r in broker.of("rec-replies-p"))
    assert all(f'"request_id":"{name}"' in told for name in "abcd" if name != "c")
    assert letters(broker) == [
        ("invalid_field", 0, 0),
        ("reply_undeliverable", 0, 2),
        ("reply_undeliverable", 5, 1),
        ("undecodable", 3, 1),
    ]
    assert reads[0] == [5, 5], "one read for all of them"


async def test_more_than_a_chunk_of_several_partitions() -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    todo = Batches([named(p, *(f"{p}-{n}" for n in range(15))) for p in range(4)])
    await stage.finish(todo, await stage.answer(todo))
    assert len(broker.of("rec-replies-p")) == 60
    assert letters(broker) == []
