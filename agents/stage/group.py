"""A worker's place in its consumer group: whether it may write, and what is left to read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import faust
from faust.types import TP


class Member(Protocol):
    """The place of a worker in its consumer group."""

    def at_end(self, topic: str, partition: int, processed: int | None) -> bool:
        """Return whether no record is left; ``processed`` is the offset after the last processed one."""

    def owns(self, topic: str, partition: int) -> bool:
        """Return whether a partition is assigned to this worker, and ``may_write``."""

    def may_write(self) -> bool:
        """Return whether no other worker can have a partition of this one, and no rebalance has begun."""

    def writing(self) -> AbstractContextManager[None]:
        """Return a context; a rebalance and a stop wait, for a bounded time, until it is left."""

    def hold_back(self, topic: str, partition: int) -> None:
        """Stop the delivery of a partition."""

    def let_go(self, topic: str, partition: int) -> None:
        """Deliver a partition again."""


class AppMember:
    """The place of an app with the batch transport."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    def at_end(self, topic: str, partition: int, processed: int | None) -> bool:
        """See ``Member``."""
        return bool(self._app.consumer.at_end(TP(topic, partition), processed))

    def owns(self, topic: str, partition: int) -> bool:
        """See ``Member``."""
        return self.may_write() and TP(topic, partition) in self._app.consumer.assignment()

    def may_write(self) -> bool:
        """See ``Member``."""
        consumer = self._app.consumer
        return bool(consumer.flow_active and consumer.lease_valid())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See ``Member``."""
        consumer = self._app.consumer
        body = consumer.body_started()
        try:
            yield
        finally:
            consumer.body_ended(body)

    def hold_back(self, topic: str, partition: int) -> None:
        """See ``Member``. Batches that are queued already are still delivered."""
        self._app.consumer.on_buffer_full(TP(topic, partition))

    def let_go(self, topic: str, partition: int) -> None:
        """See ``Member``."""
        self._app.consumer.on_buffer_drop(TP(topic, partition))
