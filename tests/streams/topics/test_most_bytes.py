"""A topic that keeps so many bytes at most: what is asked of the broker; the one of the demo does it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from fresh_topics import make_topics

from headrace.streams.settings import Settings
from headrace.streams.topics.checks import FoundTopic, faults
from headrace.streams.topics.names import Topics, TopicSpec
from headrace.streams.topics.reader import open_reader
from headrace.streams.topics.sender import BatchSender


def of_traces(settings: Settings) -> TopicSpec:
    topics = Topics(settings)
    (spec,) = (spec for spec in topics.specs(settings) if spec.name == topics.traces)
    return spec


def test_traces_keep_everything_or_so_many_bytes() -> None:
    assert "retention.bytes" not in of_traces(Settings()).config(Settings())
    few = Settings(trace_mb=800, partitions=4)
    config = of_traces(few).config(few)
    assert (config["retention.bytes"], config["segment.bytes"]) == ("200000000", "25000000")
    tight = Settings(trace_mb=1, partitions=4)
    config = of_traces(tight).config(tight)
    assert config["retention.bytes"] == "250000"
    assert int(config["segment.bytes"]) > int(config["max.message.bytes"]), "a segment takes every record"


def test_the_bound_that_was_asked_for_is_no_fault() -> None:
    bounded, free = Settings(trace_mb=800), Settings()
    told = FoundTopic(bounded.partitions, 1, of_traces(bounded).config(bounded))
    assert list(faults(of_traces(bounded), told, bounded)) == []
    (fault,) = faults(of_traces(free), told, free)
    assert "before their time" in fault.text


@pytest.mark.broker
async def test_the_oldest_records_go(
    make_settings: Callable[..., Settings], sender: BatchSender, eventually: Any, real_kafka: bool
) -> None:
    if real_kafka:
        pytest.skip("Kafka looks at the bytes of a topic every five minutes only")
    settings = make_settings(partitions=1, trace_mb=10)
    await make_topics(settings)
    topic = Topics(settings).traces
    for _ in range(60):
        await sender.send_keyed(topic, [(b"r", os.urandom(500_000), None, ())])
    async with open_reader(settings, [topic]) as reader:
        (tp,) = reader.partitions

        async def are_gone() -> bool:
            starts, ends = await reader.bounds()
            assert ends[tp] == 60
            return 60 > starts[tp] >= 20

        await eventually(are_gone, timeout=30.0)
