"""A state store of a stage with a copy of its rows in the online store (Redis)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import faust
import numpy as np
from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents.stage.online_copy import OnlineCopy
from headrace.agents.stage.refill import Visible, changelog_reader, everything
from headrace.agents.wiring import Wiring
from headrace.serving.store.applied import Applied
from headrace.serving.store.protocol import Kind
from headrace.streams.errors import FencedError, UnavailableError
from headrace.streams.tables.expiry import Expiry
from headrace.streams.tables.partition import U64, Changes, StatePartition
from headrace.streams.tables.rows import PackedRows
from headrace.streams.tables.store import StateStore

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Pause before a failed read from the broker is tried again.
RETRY_S = 1.0


def packed(state: StatePartition, keys: U64) -> list[bytes | None]:
    """Return the packed rows of ``keys``, None for those not in memory."""
    rows = state.rows.find(keys)
    there = np.flatnonzero(rows >= 0)
    out: list[bytes | None] = [None] * len(keys)
    for i, row in zip(there.tolist(), state.rows.pack(rows[there]), strict=True):
        out[i] = row
    return out


class CopiedStore:
    """A state store and, if it has one, its copy in the online store.

    Changed rows are written to the copy. Evicted rows do not need it: they are on the local disk.

    Parameters
    ----------
    topic
        Full name of the changelog.
    kind
        Kind of the rows in the online store; None: no copy.
    visible
        Says which packed rows readers of the online store may see.
    options
        Options of ``StateStore``: dtype, blank, order, lasting.

    Attributes
    ----------
    table
        The state store.
    copy
        Keeps the rows in the online store up to date; None without a copy.
    """

    def __init__(
        self,
        app: faust.App,
        wiring: Wiring,
        topic: str,
        kind: Kind | None,
        *,
        visible: Visible = everything,
        **options: Any,
    ) -> None:
        self._wiring = wiring
        self._expiry = WeakKeyDictionary[StatePartition, Expiry]()
        self.state_store = StateStore(
            app,
            topic,
            changelog=topic,
            sender=wiring.sender,
            max_rows=wiring.settings.memory_rows,
            **options,
        )
        self.copy = (
            OnlineCopy(
                wiring.store,
                kind,
                changelog_reader(wiring.settings, topic),
                visible=visible,
                owned=self._owned,
                clock=wiring.clock,
            )
            if kind is not None
            else None
        )

    def _owned(self, partition: int) -> bool:
        try:
            self.state_store.check_lease()
        except FencedError:
            return False
        return partition in self.state_store.active

    def services(self) -> list[Service]:
        """Return the services that must run beside the agent."""
        return [] if self.copy is None else [self.copy]

    def attach(self, state: StatePartition, applied: Applied | None = None) -> None:
        """Start copying a partition to the online store.

        ``applied`` is what its rows have of the source topics, for the beats.
        """
        if self.copy is not None:
            self.copy.attach(state.number, partial(packed, state), state.position, applied)

    async def show(self, changed: Mapping[int, PackedRows]) -> None:
        """Write changed rows, by partition, to the online store. A call without rows still moves marks."""
        if self.copy is not None:
            await self.copy.put(changed)

    async def say(self, applied: Mapping[int, Applied], at_once: Collection[int]) -> None:
        """Let the beats say what the rows of the last ``show`` have of the source topics; some now."""
        if self.copy is not None:
            await self.copy.say(applied, at_once)

    async def hide(self, partition: int, keys: U64 | Sequence[int]) -> None:
        """Remove rows from the online store."""
        if self.copy is not None and len(keys):
            await self.copy.drop(partition, keys)

    def written(self, state: StatePartition) -> None:
        """Note the new changelog position after a durable flush."""
        if self.copy is not None:
            self.copy.durable(state.number, state.position)

    async def make_room(self, state: StatePartition) -> None:
        """Evict rows when there are more than ``memory_rows``; delete those idle for ``state_ttl_s``.

        Call it before ``restore``: between ``restore`` and the use of the rows, none may be evicted.
        """
        settings, clock = self._wiring.settings, self._wiring.clock
        state.evict(max_rows=settings.memory_rows)
        expiry = self._expiry.get(state)
        if expiry is None:
            expiry = self._expiry[state] = Expiry(settings.state_ttl_s * 1000, clock.monotonic())
        await self.hide(state.number, expiry.look(state, clock.now_ms(), clock.monotonic()))

    async def restore(self, state: StatePartition, keys: Callable[[], U64]) -> None:
        """Bring the evicted ones of ``keys()`` into memory again; called only when rows are evicted."""
        if state.evicted_count:
            away = state.evicted(keys())
            if len(away):
                await persist(lambda: self.state_store.restore(state.number, away))


async def write_last_first(stores: Sequence[CopiedStore], changes: Mapping[int, Sequence[Changes]]) -> None:
    """Write changes of several state stores to their changelogs, those of the last one first.

    The first state store keeps the meta records: they must be durable after all rows that they cover. When a
    write fails, the changes that were not written are put back for the next flush.

    Parameters
    ----------
    changes
        By partition, the changes of each of ``stores``.
    """
    left = list(range(len(stores)))
    try:
        while left:
            at = left.pop()
            await stores[at].state_store.write({number: every[at] for number, every in changes.items()})
    except BaseException:
        for at in left:
            for every in changes.values():
                every[at].partition.put_back(every[at])
        raise


async def persist(read: Callable[[], Awaitable[T]]) -> T:
    """Return the result of ``read``; call it again, after a pause, while the broker cannot be reached.

    The agent waits meanwhile, as its consumer does.

    Raises
    ------
    FencedError
        When ``read`` raises it: another worker owns the partition.
    """
    while True:
        try:
            return await read()
        except (KafkaError, UnavailableError) as exc:
            log.warning("waiting for the broker: %s", exc, extra={"action": "broker_away"})
            await asyncio.sleep(RETRY_S)
