"""What the checks ask of a caller: send this request, say what came back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a caller says about one request: the body of its reply, that no reply came in time, or an error.

    ``text`` is the body or the error's text; it is empty after a timeout, and for a reply without a value.
    """

    kind: Literal["reply", "timeout", "error"]
    text: str = ""


class Caller(Protocol):
    """A client of the request topic, with its own way of naming reply topic and correlation id."""

    name: str

    async def start(self, replies: str) -> None:
        """Connect and listen to the reply topic ``replies``. On return, no reply is missed any more."""

    async def ask(self, topic: str, key: str, body: str, timeout_s: float) -> Outcome:
        """Send ``body`` to ``topic`` and wait for its reply. Several may wait at once."""

    async def stop(self) -> None:
        """Disconnect."""
