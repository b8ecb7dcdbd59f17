"""The lease: how long ago the group last confirmed that this worker is a member.

A worker that was stopped (a paused container, a machine that slept) may continue to write although the group
has removed it and other workers own its partitions. The lease prevents that. The group cannot have removed a
worker as long as less than a session timeout has passed since it *sent* a heartbeat that was confirmed. The
session starts again when the coordinator receives the heartbeat, and that is later::

    t0 heartbeat sent -- t1 coordinator: session until t1 + timeout -- t2 answer: lease until t0 + timeout

The answer "rebalance in progress" is no confirmation. When the member then does not rejoin, the group removes
it a rebalance timeout after the rebalance began, and the rebalance began after the last confirmed heartbeat.
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
#: On Linux only this clock counts the time while the machine is suspended.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return monotonic seconds of a clock that runs while the process is stopped or the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """Notes when the group coordinator last confirmed this worker (aiokafka does not publish that time).

    It may be read from any thread.
    """

    def __init__(self) -> None:
        self._confirmed = -math.inf

    def watch(self, coordinator: Any) -> None:
        """Note the answers that a new ``GroupCoordinator`` of aiokafka gets from now on."""
        self._confirmed = -math.inf
        send = coordinator._send_req

        async def send_and_note(request: Any) -> Any:
            sent_at = now()
            answer = await send(request)
            self._note(request, answer, sent_at)
            return answer

        coordinator._send_req = send_and_note

    def age(self) -> float:
        """Return the seconds since the worker was last confirmed; inf when it is not a member."""
        return now() - self._confirmed

    def _note(self, request: Any, answer: Any, sent_at: float) -> None:
        if isinstance(request, (HeartbeatRequest, SyncGroupRequest, OffsetCommitRequest)):
            for code in _codes(answer):
                error = for_code(code)
                if error in (UnknownMemberIdError, IllegalGenerationError) or code == _FENCED_INSTANCE:
                    self._confirmed = -math.inf
                elif error is NoError and not isinstance(request, OffsetCommitRequest):
                    self._confirmed = sent_at
        elif isinstance(request, LeaveGroupRequest):
            self._confirmed = -math.inf


def _codes(answer: Any) -> Iterator[int]:
    if hasattr(answer, "error_code"):
        yield answer.error_code
    else:
        yield from (code for _, partitions in answer.topics for _, code in partitions)
