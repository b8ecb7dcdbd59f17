"""Events that a mapping file leaves out are counted once: by the agent that says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from project import ROOT
from prometheus_client.exposition import generate_latest

from headrace.agents.stage.foreign_events import ForeignEvents
from headrace.agents.wiring import Wiring
from headrace.serving.store.memory import MemoryStore
from headrace.streams.metrics import Metrics
from headrace.streams.scraping import read_samples
from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender

NAME = "headrace_ignored_events_total"


def record(offset: int, value: bytes) -> Any:
    return SimpleNamespace(key=b"k", value=value, offset=offset, timestamp=5, headers=[])


def page(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


async def test_what_is_ignored_is_counted_by_one_agent() -> None:
    settings = Settings(events_mapping=str(ROOT / "ops" / "mappings" / "segment.toml"))
    nobody = BatchSender(settings)
    wiring = Wiring(settings, nobody, nobody, MemoryStore())
    foreign = ForeignEvents(wiring)
    records = [record(n, b'{"type":"page"}') for n in range(3)] + [record(3, b'{"type":"track"}')]
    assert len((await foreign.read(records)).records) == 1
    assert read_samples(page(wiring.metrics), (NAME,)) in ({}, {(NAME, ()): 0.0})
    told = await foreign.read(records, count=True)
    assert (told.ignored, [r.offset for r in told.records]) == (3, [3])
    assert read_samples(page(wiring.metrics), (NAME,)) == {(NAME, ()): 3.0}
