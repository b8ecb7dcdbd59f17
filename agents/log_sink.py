"""log_sink: reads `examples`; writes the Parquet log for the trainer; keeps the rows of unfinished files."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import faust
from mode import Service

from headrace.agents.learn import check_example
from headrace.agents.stage.drive import drive
from headrace.agents.stage.flushes import Durable, Flushes
from headrace.agents.wiring import Wiring
from headrace.models.learning import examples as example_log
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import Example
from headrace.streams.topics import flow
from headrace.streams.transport.batches import RecordBatch

FLOW = flow.agent("log_sink")
#: A file is written early when this many rows wait.
MAX_ROWS = 200_000


@dataclass(slots=True)
class FileRows:
    """Rows of a partition's next file, and the offsets of their records."""

    examples: list[Example] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)


class LogStage:
    """Collects rows for the next file, by partition; acknowledges a batch when its rows are in a file."""

    def __init__(self, app: faust.App, wiring: Wiring) -> None:
        self.wiring = wiring
        self.decoder = Decoder(Example, wiring.settings.max_event_bytes, check_example)
        every_s = wiring.settings.log_flush_s
        self.flushes = Flushes(self._take, self._write, every_s, every_s, app.crash, wiring.clock)
        self._waiting: dict[int, FileRows] = {}

    async def apply(self, batch: RecordBatch) -> None:
        """Collect the rows of a batch. Bad examples are skipped: `learn` writes them to `dead-letters`."""
        if sum(len(rows.examples) for rows in self._waiting.values()) >= MAX_ROWS:
            await self.flushes.flush()
        decoded = self.decoder.batch(batch.records)
        rows = self._waiting.setdefault(batch.partition, FileRows())
        rows.examples.extend(decoded.values)
        rows.offsets.extend(record.offset for record in decoded.records)

    def revoked(self) -> None:
        """Forget the rows that wait: their batches are delivered again."""
        self._waiting.clear()
        self.flushes.forget()

    async def _take(self, durable: Durable) -> dict[int, FileRows]:
        return {number: self._waiting.pop(number) for number in list(self._waiting) if durable(number)}

    async def _write(self, taken: dict[int, FileRows]) -> None:
        for partition, rows in taken.items():
            if rows.examples:
                table = example_log.table_of(rows.examples, partition, rows.offsets)
                await asyncio.to_thread(example_log.write, self.wiring.settings.data_dir, table, partition)


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    drive(app, wiring, FLOW, LogStage(app, wiring))
    return []
