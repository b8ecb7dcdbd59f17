"""log_sink: reads `examples`; writes the Parquet log for the trainer; keeps the rows of unfinished files.

While the disk is full or read-only, nothing is acknowledged, the agent waits, and the write is tried again
until it succeeds. No other agent of the process notices.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

import faust
import pyarrow as pa
from mode import Service

from headrace.agents.learn import check_example
from headrace.agents.stage.drive import drive
from headrace.agents.stage.flushes import Durable, Flushes
from headrace.agents.stage.log_upkeep import LogUpkeep
from headrace.agents.wiring import Wiring
from headrace.models.learning import examples as example_log
from headrace.models.learning import log_files
from headrace.models.learning.outcome_counts import OutcomeCounts
from headrace.streams.errors import FencedError, PutOffError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import Example
from headrace.streams.topics import flow
from headrace.streams.transport.batches import RecordBatch

FLOW = flow.agent("log_sink")
log = logging.getLogger(__name__)

#: With so many rows waiting for a file, the agent writes them before it takes another batch.
MAX_ROWS = 200_000
#: Pause before a failed write is tried again, and time between two log lines about it, s.
RETRY_S, TELL_EVERY_S = 1.0, 30.0


class LogStage:
    """Collects rows for the next file, by partition; acknowledges a batch when its rows are in a file."""

    def __init__(self, app: faust.App, wiring: Wiring) -> None:
        self.wiring = wiring
        self.folder = log_files.folder_of(wiring.settings)
        self.decoder = Decoder(Example, wiring.settings.max_event_bytes, check_example)
        every_s = wiring.settings.log_flush_s
        self.flushes = Flushes(self._take, self._write, every_s, every_s, app.crash, wiring.clock)
        self.outcomes = OutcomeCounts()
        wiring.metrics.read(self.outcomes.read)
        self._app = app
        self._waiting: dict[int, list[pa.Table]] = {}
        self._assignment = 0  # grows with every rebalance
        self._told: float | None = None  # time of the last log line about a disk that takes nothing

    async def apply(self, batch: RecordBatch) -> None:
        """Collect the rows of a batch. Bad examples are skipped: `learn` writes them to `dead-letters`.

        Waits while ``MAX_ROWS`` rows wait for a file.

        Raises
        ------
        FencedError
            There was a rebalance meanwhile.
        """
        assignment = self._assignment
        while self._rows() >= MAX_ROWS and not self._app.should_stop:
            await self.flushes.flush()
        # In a thread: it takes about 5 us a row.
        table = await asyncio.to_thread(self._table, batch)
        if assignment != self._assignment:
            raise FencedError(f"{batch!r} is of an earlier assignment")
        if table.num_rows:
            self._waiting.setdefault(batch.partition, []).append(table)

    def _rows(self) -> int:
        return sum(table.num_rows for tables in self._waiting.values() for table in tables)

    def _table(self, batch: RecordBatch) -> pa.Table:
        decoded = self.decoder.batch(batch.records)
        self.outcomes.add(decoded.values)
        offsets = [record.offset for record in decoded.records]
        timestamps = [record.timestamp for record in decoded.records]
        return example_log.table_of(decoded.values, batch.partition, offsets, timestamps)

    def revoked(self) -> None:
        """Forget the rows that wait: their batches are delivered again."""
        self._assignment += 1
        self._waiting.clear()
        self.flushes.forget()

    async def _take(self, durable: Durable) -> dict[int, list[pa.Table]]:
        return {number: self._waiting.pop(number) for number in list(self._waiting) if durable(number)}

    async def _write(self, taken: dict[int, list[pa.Table]]) -> None:
        assignment = self._assignment
        try:
            for partition in list(taken):
                await self._until_written(partition, pa.concat_tables(taken[partition]), assignment)
                del taken[partition]
        except PutOffError:
            if assignment == self._assignment:
                for partition, tables in taken.items():
                    self._waiting[partition] = tables + self._waiting.get(partition, [])
            raise

    async def _until_written(self, partition: int, table: pa.Table, assignment: int) -> None:
        """Write a file; while the disk does not take it, try again.

        Raises
        ------
        PutOffError
            The worker stops, or there was a rebalance. The file may have been written.
        """
        while True:
            try:
                await asyncio.to_thread(example_log.write, self.folder, table, partition)
            except OSError as exc:
                self._tell(exc)
            else:
                break
            if not self._app.should_stop:
                await self.wiring.clock.sleep(RETRY_S)
            if self._app.should_stop or assignment != self._assignment:
                raise PutOffError(f"the rows of partition {partition} wait for a disk that takes them")
        if self._told is not None:
            self._told = None
            log.info("the training log is written again", extra={"action": "log_written_again"})

    def _tell(self, exc: OSError) -> None:
        now = self.wiring.clock.monotonic()
        if self._told is None or now >= self._told + TELL_EVERY_S:
            self._told = now
            log.error("the training log cannot be written, and waits: %s", exc, extra={"action": "log_waits"})


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    stage = LogStage(app, wiring)
    drive(app, wiring, FLOW, stage)

    def owned() -> Collection[int]:
        return {tp.partition for tp in app.consumer.assignment() if tp.topic == wiring.topics.examples}

    return [LogUpkeep(stage.folder, owned, wiring.settings.log_keep_days, wiring.clock)]
