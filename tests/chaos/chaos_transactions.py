"""A producer whose events are in transactions; many transactions are aborted and made again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from chaos_load import ABORTED, MARK

from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.sender import OutRecord

#: Share of the transactions that are aborted first, and time between two transactions.
ABORT, EVERY_S = 0.4, 0.7
#: The broker aborts a transaction that its producer has left open for longer than this.
OPEN_MS = 10_000
#: Longest time for one step of a transaction.
STEP_S = 20.0


class Transactions:
    """Sends transactions; those that are aborted are sent again, and commit then.

    ``committed`` counts events in committed transactions, ``aborted`` those in aborted ones.

    Parameters
    ----------
    take
        Makes the events of the next transaction.
    tell
        Called with a sentence about an error.
    """

    def __init__(
        self,
        seed: int,
        settings: Settings,
        topic: str,
        take: Callable[[], list[OutRecord]],
        tell: Callable[[str], None],
    ) -> None:
        self.committed = self.aborted = 0
        self._rng = random.Random(f"transactions-{seed}")
        self._settings, self._topic, self._take, self._tell = settings, topic, take, tell
        self._producer: AIOKafkaProducer | None = None

    async def run(self, over: asyncio.Event) -> None:
        """Send transactions until it is ``over``. What may not have been committed is sent again."""
        try:
            while not over.is_set():
                await asyncio.sleep(EVERY_S)
                records, abort = self._take(), self._rng.random() < ABORT
                while records:
                    try:
                        await self._send(records, abort=abort)
                    except (KafkaError, TimeoutError, OSError) as exc:
                        self._tell(f"a transaction failed, another producer takes over: {exc!r}")
                        await self._stop()
                        await asyncio.sleep(1.0)
                    else:
                        break
        finally:
            await self._stop()

    async def _send(self, records: list[OutRecord], *, abort: bool) -> None:
        producer = await self._connected()
        if abort:
            marked: list[OutRecord] = [(k, v, ts, [(MARK, ABORTED)]) for k, v, ts, _ in records]
            await self._write(producer, marked)
            await asyncio.wait_for(producer.abort_transaction(), STEP_S)
            self.aborted += len(records)
        await self._write(producer, records)
        await asyncio.wait_for(producer.commit_transaction(), STEP_S)
        self.committed += len(records)

    async def _write(self, producer: AIOKafkaProducer, records: list[OutRecord]) -> None:
        """Begin a transaction, and write its records so that they are in the topic."""
        async with asyncio.timeout(STEP_S):
            await producer.begin_transaction()
            sent = [
                await producer.send(self._topic, value, key=key, timestamp_ms=ts, headers=list(headers))
                for key, value, ts, headers in records
            ]
            await asyncio.gather(*sent)

    async def _connected(self) -> AIOKafkaProducer:
        """Return a producer. A new one with the same id ends what the one before has left open."""
        if self._producer is None:
            producer = AIOKafkaProducer(
                **connection(self._settings),
                client_id="chaos-transactions",
                transactional_id="chaos",
                transaction_timeout_ms=OPEN_MS,
                max_request_size=self._settings.max_message_bytes,
            )
            try:
                await asyncio.wait_for(producer.start(), STEP_S)
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(producer.stop(), 5.0)
