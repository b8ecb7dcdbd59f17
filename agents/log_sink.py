"""log_sink: reads `examples`; writes the Parquet log the trainer reads; keeps rows of unfinished files."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
from mode import Service

from headrace.agents.learn import check_example
from headrace.agents.wiring import Flusher, Wiring
from headrace.models.learning import examples as example_log
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import Example
from headrace.streams.transport.consumer import RecordBatch, batch_topic, manual

NAME = "log_sink"
#: A file is closed early at this many rows.
MAX_ROWS = 200_000


class LogStage:
    """Rows waiting for their file, by partition."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.decoder = Decoder(Example, wiring.settings.max_event_bytes, check_example)
        self.flusher = Flusher(self._write, wiring.settings.log_flush_s)
        self._rows: dict[int, tuple[list[Example], list[int]]] = {}

    def apply(self, batch: RecordBatch, examples: list[Example], offsets: list[int]) -> None:
        """Keep a batch's rows."""
        rows, numbers = self._rows.setdefault(batch.partition, ([], []))
        rows.extend(examples)
        numbers.extend(offsets)

    def full(self) -> bool:
        """Return whether files should be closed now."""
        return sum(len(rows) for rows, _ in self._rows.values()) >= MAX_ROWS

    def revoked(self) -> None:
        """Forget rows whose batches will be delivered again."""
        self._rows.clear()
        self.flusher.forget()

    async def _write(self) -> None:
        taken, self._rows = self._rows, {}
        for partition, (rows, offsets) in taken.items():
            if rows:
                table = example_log.table_of(rows, partition, offsets)
                await asyncio.to_thread(example_log.write, self.wiring.settings.data_dir, table, partition)


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    stage = LogStage(wiring)

    @app.agent(batch_topic(app, wiring.topics.examples), name=NAME)
    async def log_sink(stream: Any) -> None:
        async for batch, ack in manual(stream):
            # Bad examples are buried by the learner, which reads the same topic.
            decoded = stage.decoder.batch(batch.records)
            stage.apply(batch, decoded.values, [r.offset for r in decoded.records])
            await stage.flusher.hold(ack)
            if stage.full():
                await stage.flusher.flush()

    @app.on_partitions_revoked.connect
    async def _revoked(_app: Any, revoked: Any, **_: Any) -> None:
        stage.revoked()

    return []
