"""What the routes need of the rest: a protocol, implemented over Kafka and Redis in ``agents/gateway.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from headrace.serving.gateway.kept import KeptItem, KeptUser
from headrace.serving.gateway.records import Fresh
from headrace.streams.messages.state import Mark, token_of

Topic = Literal["events", "items", "users"]


class Landed(NamedTuple):
    """Where a record is; the offset is -1 when the broker did not say (after a retry)."""

    partition: int
    offset: int


class Backend(Protocol):
    """The installation behind the gateway."""

    async def ask(self, body: bytes, user_id: str, timeout_s: float, traceparent: str = "") -> bytes:
        """Send a request for a list; return the reply's body.

        ``traceparent`` is the header of the HTTP request, empty without one.

        Raises
        ------
        TimeoutError
            When no reply came in time.
        UnavailableError
            When no broker takes the request.
        HeadraceError
            When too many requests wait already.
        """

    async def ask_in_bulk(self, body: bytes, user_id: str, timeout_s: float, traceparent: str = "") -> bytes:
        """Send a request that is answered while no other waits. Returns and raises as ``ask``."""

    async def write(self, topic: Topic, records: Sequence[Fresh]) -> list[Landed | Exception]:
        """Write records; return, for each, where it landed or why it was not written."""

    async def user(self, user_id: str, names: bool) -> KeptUser | None:
        """Return what is kept of a user, None when nothing is; ``names``: with names of items and others.

        Raises
        ------
        UnavailableError
            When Redis or the broker does not answer.
        TimeoutError
            When reading took too long.
        """

    async def item(self, item_id: str) -> KeptItem | None:
        """Return what is kept of an item, None when nothing is. Raises as ``user``."""

    async def trouble(self) -> str:
        """Return why no list can be asked for now; empty when one can."""


def state_token(topic: Topic, landed: Landed) -> str:
    """Return the token of a state that has a record; empty when its offset is not known."""
    return "" if landed.offset < 0 else token_of([Mark(topic, *landed)])
