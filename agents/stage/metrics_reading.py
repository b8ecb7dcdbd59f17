"""Reads `/metrics` of the workers of a list. A name with several addresses is several workers."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field

import aiohttp

from headrace.streams.scraping import Samples, Target, grown, read_samples, summed

#: Longest time for the answer of a worker; largest page, bytes; workers at most.
ANSWER_S, MOST_BYTES, MOST_WORKERS = 1.5, 8 * 1024 * 1024, 256
#: Names are resolved again after so long, s.
RESOLVE_S = 10.0


@dataclass(slots=True)
class Worker:
    """A worker, as it was last read.

    Attributes
    ----------
    samples, more
        What it said, and by how much that had grown since the reading before; empty after a failure.
    seconds
        Between these readings; 0 after the first one.
    trouble
        Why it could not be read; empty when it could.
    """

    samples: Samples = field(default_factory=dict)
    more: Samples = field(default_factory=dict)
    seconds: float = 0.0
    trouble: str = ""
    _held: Samples | None = None
    _held_at: float = 0.0

    def take(self, samples: Samples, at: float) -> None:
        """Take a reading."""
        self.more = grown(self._held, samples)
        self.seconds = at - self._held_at if self._held is not None else 0.0
        self.samples, self._held, self._held_at, self.trouble = samples, samples, at, ""

    def fail(self, trouble: str) -> None:
        """Note that there is no reading. The next one tells what has grown since the last one that was."""
        self.samples, self.more, self.trouble = {}, {}, trouble


class MetricsReading:
    """Reads all workers, again and again.

    Parameters
    ----------
    targets
        Where they are.
    wanted
        Beginnings of the names that are read.

    Attributes
    ----------
    workers
        By address, ``host:port``.
    """

    def __init__(self, targets: list[Target], wanted: tuple[str, ...]) -> None:
        self._targets, self._wanted = targets, wanted
        self._places: list[tuple[str, str]] = []  # address, URL
        self._resolved = float("-inf")
        self._session: aiohttp.ClientSession | None = None
        self.workers: dict[str, Worker] = {}

    async def read(self) -> None:
        """Read every worker once, all at the same time. A worker that does not answer says why."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER_S)
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        if time.monotonic() - self._resolved >= RESOLVE_S:
            await self._resolve()
        await asyncio.gather(*(self._read(self._session, *place) for place in self._places))

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def more(self) -> Samples:
        """Return by how much the samples of all workers grew."""
        return summed(worker.more for worker in self.workers.values())

    def total(self) -> Samples:
        """Return the sums of the samples of all workers."""
        return summed(worker.samples for worker in self.workers.values())

    async def _resolve(self) -> None:
        found = await asyncio.gather(*(addresses(target) for target in self._targets))
        places: dict[str, str] = {}
        told: dict[str, str] = {}
        for target, here in zip(self._targets, found, strict=True):
            if isinstance(here, str):
                told[f"{target.host}:{target.port}"] = here
            else:
                several = len(here) > 1
                for address in here:
                    name = f"{target.host}:{target.port}" if not several else f"{target.host} {address}"
                    host = f"[{address}]" if ":" in address else address
                    places[name] = f"http://{host}:{target.port}/metrics"
        self._places = list(places.items())[:MOST_WORKERS]
        self._resolved = time.monotonic()
        names = {name for name, _ in self._places} | told.keys()
        self.workers = {name: self.workers.get(name, Worker()) for name in sorted(names)}
        for name, trouble in told.items():
            self.workers[name].fail(trouble)

    async def _read(self, session: aiohttp.ClientSession, name: str, url: str) -> None:
        worker = self.workers[name]
        try:
            async with session.get(url, allow_redirects=False) as response:
                body = await response.content.read(MOST_BYTES)
                while not response.content.at_eof() and len(body) < MOST_BYTES:
                    body += await response.content.read(MOST_BYTES - len(body))
                if response.status != 200:
                    worker.fail(f"answers with status {response.status}")
                    return
            worker.take(read_samples(body.decode(), self._wanted), time.monotonic())
        except TimeoutError:
            worker.fail(f"does not answer within {ANSWER_S:g} s")
        except (aiohttp.ClientError, OSError) as exc:
            worker.fail(f"does not answer: {exc}")
        except ValueError as exc:
            worker.fail(f"what it says cannot be read: {exc}")


async def addresses(target: Target) -> list[str] | str:
    """Return the addresses of a name, sorted; or why there are none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            target.host, target.port, type=socket.SOCK_STREAM
        )
    except OSError as exc:
        return f"{target.host} cannot be resolved: {exc.strerror or exc}"
    every = sorted({str(entry[4][0]) for entry in found})
    # A host with an IPv4 and an IPv6 address would be there twice.
    return [address for address in every if ":" not in address] or every
