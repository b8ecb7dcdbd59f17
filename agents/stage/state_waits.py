"""What is behind replies, and requests that wait until the rows of their users have it (``at_least``)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from headrace.agents.stage.online_rows import OnlineRows
from headrace.serving.requests.state import UserRow, lacks_state, state_behind
from headrace.serving.snapshot.base import Base
from headrace.serving.store.applied import Applied
from headrace.serving.store.freshness import Freshness
from headrace.streams.clock import Clock
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.messages.state import marks_of
from headrace.streams.topics.sender import partition_of

log = logging.getLogger(__name__)

#: Time between two looks at the rows, s; one look is for all that wait. It is longer when more than so many
#: wait, so that the looks take no more of the worker.
LOOK_S, FEW = 0.01, 50
#: Longest wait, s: a rebalance and a stop wait for the requests of this worker.
LONGEST_S = 2.0
#: Longest wait for the beats, s: requests wait for it.
ASK_S = 0.1
#: Most requests that wait at once; others are answered without what they demand.
MOST = 200


@dataclass(slots=True, eq=False)
class _Waiting:
    request: RecRequest
    own: int
    until: float
    over: asyncio.Future[str | None]


class StateWaits:
    """Looks for the states that requests wait for, with one read for all of them.

    Parameters
    ----------
    rows, freshness
        What is looked at: rows of users, and beats.
    clock
        Time and pauses.
    """

    def __init__(self, rows: OnlineRows, freshness: Freshness, clock: Clock) -> None:
        self._rows, self._freshness, self._clock = rows, freshness, clock
        self._waiting: list[_Waiting] = []
        self._looking: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether no more requests may wait."""
        return len(self._waiting) >= MOST

    def own(self, request: RecRequest) -> int:
        """Return the partition of the user that is asked for."""
        return partition_of(request.user_id.encode(), self._freshness.partitions["u"])

    def lacks(self, request: RecRequest, row: UserRow) -> bool:
        """Return whether an answer with this row lacks a record that the request demands."""
        return bool(request.at_least) and lacks_state(request, row, self.own(request), self._freshness.known)

    def behind(self, request: RecRequest, row: UserRow, reply: RecReply, base: Base | None) -> str:
        """Return the token of what is behind a reply; ``base`` is the snapshot of the catalogue."""
        index = "" if base is None else base.snapshot.folder.name
        return state_behind(row, self.own(request), self._freshness.known, reply.model, index)

    def enter(self, request: RecRequest, longest_s: float) -> asyncio.Future[str | None]:
        """Wait for the state that a request demands; None: it is not there.

        Parameters
        ----------
        longest_s
            Longest wait, s; not longer than ``LONGEST_S``.

        Returns
        -------
        asyncio.Future
            Its result is the token of the row that has it, None if there is none. The row is read again for
            the answer, and must not be older then: the store may have lost it. It may name earlier records
            than those that are demanded: a retry changes no row.
        """
        over: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        until = self._clock.monotonic() + min(longest_s, LONGEST_S)
        self._waiting.append(_Waiting(request, self.own(request), until, over))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on())
        return over

    async def _look_on(self) -> None:
        try:
            while self._waiting:
                first = min(one.until for one in self._waiting) - self._clock.monotonic()
                pause = LOOK_S * max(1.0, len(self._waiting) / FEW)
                await self._clock.sleep(min(pause, max(0.0, first)))
                await self._look()
        except Exception:
            log.exception("requests do not wait for their states", extra={"action": "state_waits"})
        finally:
            for one in self._waiting:
                _end(one, None)
            self._waiting = []

    async def _look(self) -> None:
        looked = [one for one in self._waiting if not one.over.done()]  # others may come meanwhile
        found, away = await self._rows.read("u", [hash64(one.request.user_id) for one in looked])
        rows = dict(zip(map(id, looked), found, strict=True))
        left = [one for one in looked if self._lacks(one, rows[id(one)])]
        beats = dict[int, Applied]()
        if left and not away:
            with contextlib.suppress(UnavailableError, TimeoutError):
                async with asyncio.timeout(ASK_S):
                    beats = await self._freshness.ask(set().union(*map(self._partitions, left)))
        now = self._clock.monotonic()
        for one in looked:
            if not self._lacks(one, rows[id(one)], beats.get(one.own)):
                _end(one, state_behind(rows[id(one)], one.own, self._freshness.known, None, ""))
            elif now >= one.until:
                _end(one, None)
        self._waiting = [one for one in self._waiting if not one.over.done()]

    def _lacks(self, one: _Waiting, row: UserRow, beat: Applied | None = None) -> bool:
        return lacks_state(one.request, row, one.own, self._freshness.known, beat)

    def _partitions(self, one: _Waiting) -> set[int]:
        """Return the partitions whose beats are needed: its own, and those that records are in."""
        elsewhere = {mark.partition for mark in marks_of(one.request.at_least) if mark.source != "items"}
        return {one.own} | (elsewhere & set(range(self._freshness.partitions["u"])))


def _end(one: _Waiting, found: str | None) -> None:
    if not one.over.done():  # its request may have been given up
        one.over.set_result(found)
