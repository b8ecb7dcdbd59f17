"""Asks for the lists of the parts of a digest that are missing, and writes each part when it is complete."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pyarrow as pa

from headrace.console.digests.asking import Asking
from headrace.console.digests.parts import Parts
from headrace.console.digests.users import Seen
from headrace.console.screen import Reporter
from headrace.serving.requests.client import RecClient
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings

#: Parts for whose users the earlier lists are read together: each reading goes through the whole file.
_READ_TOGETHER = 20


class Job:
    """The parts of one run that are missing.

    Parameters
    ----------
    parts
        The files.
    users
        Ids of all users.
    seen
        Items that are not to be on the lists.

    Attributes
    ----------
    before
        Users whose parts are there from an earlier run.
    done
        Users whose parts are there.
    """

    def __init__(self, parts: Parts, users: pa.StringArray, seen: Seen) -> None:
        self._parts, self._users, self._seen = parts, users, seen
        self._missing = parts.missing()
        self._open: dict[int, dict[int, RecReply]] = {}
        self.before = self.done = len(users) - sum(len(parts.run.users_of(part)) for part in self._missing)

    async def ask(self, settings: Settings, report: Reporter, *, in_flight: int, timeout_s: float) -> None:
        """Ask for all that is missing. Raises as ``Asking.run``, and when no broker answers.

        Parameters
        ----------
        report
            Gets the progress: users, and how fast.
        in_flight, timeout_s
            See ``Asking``.
        """
        if not self._missing:
            return
        began, answered, failed = time.monotonic(), 0, 0

        def take(number: int, reply: RecReply) -> None:
            nonlocal answered, failed
            answered += 1
            failed += reply.error is not None or not reply.items
            self._take(number, reply)
            rate = answered / max(1e-9, time.monotonic() - began)
            report(self.before + answered, f"{rate:,.0f}/s, {failed:,} without a list")

        async with RecClient(settings, "digest", max_pending=in_flight, bulk=True) as client:
            asking = Asking(client.recommend, take, in_flight=in_flight, timeout_s=timeout_s)
            await asking.run(self._requests())

    def _requests(self) -> Iterator[tuple[int, RecRequest]]:
        """Yield the requests of the users of the missing parts, and their numbers."""
        run = self._parts.run
        for start in range(0, len(self._missing), _READ_TOGETHER):
            numbers = [
                n for part in self._missing[start : start + _READ_TOGETHER] for n in run.users_of(part)
            ]
            names = self._users.take(pa.array(numbers)).to_pylist()
            seen = self._seen.of(names)
            for number, name in zip(numbers, names, strict=True):
                yield (
                    number,
                    RecRequest(f"{run.tag}-{number}", name, run.surface, run.n, seen=seen.get(name, [])),
                )

    def _take(self, number: int, reply: RecReply) -> None:
        """Keep a reply; write its part when it is the last one."""
        part = number // self._parts.run.size
        replies = self._open.setdefault(part, {})
        replies[number] = reply
        numbers = self._parts.run.users_of(part)
        if len(replies) == len(numbers):
            names = self._users[numbers.start : numbers.stop].to_pylist()
            self._parts.write(part, names, [replies[n] for n in numbers])
            del self._open[part]
            self.done += len(numbers)
