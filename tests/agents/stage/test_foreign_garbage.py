"""A batch of garbage that looks as if it had schemas comes to an end: in the agents, and in the oracle."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from foreign_forms import wire
from schema_registry import running

from headrace.agents.stage.foreign_events import ForeignEvents
from headrace.agents.wiring import Wiring
from headrace.console.verification.foreign_records import ForeignRecords
from headrace.serving.store.memory import MemoryStore
from headrace.streams.messages.formats.schemas import MOST_UNKNOWN
from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender


def record(offset: int) -> Any:
    return SimpleNamespace(key=b"k", value=wire(offset + 1, b"x"), offset=offset, timestamp=5, headers=[])


async def test_more_unknown_schemas_than_are_remembered_hold_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.streams.messages.formats.schemas.PATIENCE_S", 0.2)
    records = [record(n) for n in range(MOST_UNKNOWN + 50)]
    with running() as registry:
        settings = Settings(events_format="detect", registry_url=registry.url, data_dir=tmp_path)
        nobody = BatchSender(settings)
        foreign = ForeignEvents(Wiring(settings, nobody, nobody, MemoryStore()))
        told = await foreign.read(records)
        assert {why.reason for why in told.refused.values()} == {"unknown_schema"}
        assert len(told.refused) == len(records)
        await ForeignRecords(settings).read(records)
