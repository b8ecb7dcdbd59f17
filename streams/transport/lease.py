"""How long ago the group last confirmed that this worker is a member: the fence against zombies.

A worker that was stopped (a paused container, a swapped-out or suspended machine) may go on as if nothing had
happened, while the group removed it and gave its partitions away. The group cannot have done that as long as
less than a session timeout passed since this worker *asked* and was confirmed: the session begins anew when
the coordinator gets the question, which is later.

    t0 heartbeat sent -- t1 coordinator: session till t1 + timeout -- t2 answer read: lease till t0 + timeout

The answer "rebalance in progress" confirms nothing: a member that then does not rejoin is removed a rebalance
timeout after the rebalance began, which was after the last heartbeat that was plainly accepted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer.group_coordinator import OffsetCommitRequest
from aiokafka.errors import (
    IllegalGenerationError,
    NoError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.group import HeartbeatRequest, LeaveGroupRequest, SyncGroupRequest

_FENCED_INSTANCE = 82
#: Linux counts the time asleep (a suspended machine) on this clock only.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return monotonic seconds that go on while the process is stopped and the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """Watches what a group coordinator answers. aiokafka keeps the time of the last heartbeat to itself.

    Read it from any thread.
    """

    def __init__(self) -> None:
        self._confirmed = -math.inf

    def watch(self, coordinator: Any) -> None:
        """Note the answers to a (new) ``GroupCoordinator`` of aiokafka from now on."""
        self._confirmed = -math.inf
        send = coordinator._send_req

        async def send_and_note(request: Any) -> Any:
            asked = now()
            answer = await send(request)
            self._note(request, answer, asked)
            return answer

        coordinator._send_req = send_and_note

    def age(self) -> float:
        """Return the seconds since membership was last confirmed; inf when it is not a member (any more)."""
        return now() - self._confirmed

    def _note(self, request: Any, answer: Any, asked: float) -> None:
        if isinstance(request, (HeartbeatRequest, SyncGroupRequest, OffsetCommitRequest)):
            for code in _codes(answer):
                error = for_code(code)
                if error in (UnknownMemberIdError, IllegalGenerationError) or code == _FENCED_INSTANCE:
                    self._confirmed = -math.inf
                elif error is NoError and not isinstance(request, OffsetCommitRequest):
                    self._confirmed = asked
        elif isinstance(request, LeaveGroupRequest):
            self._confirmed = -math.inf


def _codes(answer: Any) -> Iterator[int]:
    if hasattr(answer, "error_code"):
        yield answer.error_code
    else:
        yield from (code for _, partitions in answer.topics for _, code in partitions)
