"""Cuts the end off the logs of a stopped Kafka broker, as when unflushed records are lost in a power cut."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ops.kafka.run import KafkaServer

#: Bytes before the length field of a record batch, and those of the offset and the length together.
LENGTH_AT, HEAD = 8, 12


class Broker:
    """A Kafka broker of these tests alone; it is started again from a thread that outlives it."""

    def __init__(self, server: KafkaServer, thread: ThreadPoolExecutor) -> None:
        self._server, self._thread = server, thread
        self.address, self.data = server.address, server.data

    async def kill(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def start(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._server.start)


def cut_log(data: Path, topic: str, partition: int, keep: int) -> int:
    """Remove the record batches of a partition from offset ``keep`` on; a batch goes as a whole.

    Returns
    -------
    The end offset now.
    """
    (segment,) = Path(data, "log", f"{topic}-{partition}").glob("*.log")
    content = segment.read_bytes()
    at, end = 0, 0
    while at + HEAD <= len(content):
        base = int.from_bytes(content[at : at + 8], "big")
        size = int.from_bytes(content[at + LENGTH_AT : at + HEAD], "big")
        last = base + int.from_bytes(content[at + 23 : at + 27], "big")
        if size <= 0 or last >= keep:
            break
        at, end = at + HEAD + size, last + 1
    segment.write_bytes(content[:at])
    return end
