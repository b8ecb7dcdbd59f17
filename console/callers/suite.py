"""What a check has at hand: the caller, the broker, and bodies of requests and replies."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from headrace.console.callers.caller import Caller, Outcome
from headrace.console.callers.wire import Wire

#: Timeout of requests that are not to be answered in time.
SHORT_S = 1.0
#: How much later than its timeout a caller may say so: a busy machine, a slow shell.
GRACE_S = 15.0


class Failed(Exception):  # noqa: N818 - it is an outcome of a check
    """The check failed; the text says what was seen instead."""


class Advice(Exception):  # noqa: N818 - it is an outcome of a check
    """Nothing is wrong, and something can be better."""


class Suite:
    """One caller on one installation.

    Parameters
    ----------
    caller
        Started, with ``wire.replies`` as its reply topic.
    wire
        Started.
    tag
        Every ``request_id`` begins with it.
    timeout_s
        Longest wait for a reply.
    """

    def __init__(self, caller: Caller, wire: Wire, tag: str, timeout_s: float) -> None:
        self.caller, self.wire, self.timeout_s = caller, wire, timeout_s
        self._tag, self._count = tag, 0

    def request(self, **fields: Any) -> dict[str, Any]:
        """Return a request with an id and a user of its own."""
        self._count += 1
        one = f"{self._tag}-{self._count}"
        deadline = min(60_000, int(self.timeout_s * 1000))
        base = {"request_id": one, "user_id": one, "surface": "home", "n": 3, "deadline_ms": deadline}
        return {**base, **fields}

    async def ask(self, topic: str, request: dict[str, Any], timeout_s: float | None = None) -> Outcome:
        """Have the caller ask; an error when it says nothing."""
        wait = self.timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(wait + GRACE_S):
                return await self.caller.ask(topic, request["user_id"], json.dumps(request), wait)
        except TimeoutError:
            return Outcome("error", f"the caller says nothing {GRACE_S:g} s after the timeout of its request")

    async def asked(self, topic: str, request: dict[str, Any]) -> Any:
        """Return the record of a request on the broker.

        Raises
        ------
        Failed
            It does not come, or has no reply address.
        """
        text = json.dumps(request["request_id"]).encode()
        record = await self.wire.wait(topic, lambda r: text in (r.value or b""), self.timeout_s)
        if record is None:
            raise Failed(f"the request did not come to {topic} within {self.timeout_s:g} s")
        try:
            self.wire.address(record)
        except ValueError as exc:
            raise Failed(str(exc)) from exc
        return record

    def list_for(self, request: dict[str, Any], **more: Any) -> bytes:
        """Return the body of a reply to a request, with one item that is named after it."""
        item = {"item_id": request["request_id"], "score": 1.0, "sources": ["popular"]}
        return json.dumps({"request_id": request["request_id"], "items": [item], **more}).encode()


def reply_in(outcome: Outcome, request: dict[str, Any]) -> dict[str, Any]:
    """Return the reply that the caller got, decoded.

    Raises
    ------
    Failed
        It got none, or that of another request.
    """
    if outcome.kind != "reply":
        raise Failed(f"no reply but {outcome.kind} {outcome.text}".rstrip())
    try:
        reply = json.loads(outcome.text)
    except ValueError:
        raise Failed(f"the reply is not the JSON that was sent: {outcome.text[:80]!r}") from None
    got = reply.get("request_id") if isinstance(reply, dict) else None
    if got != request["request_id"]:
        raise Failed(f"the reply of request {got!r} came to the caller of {request['request_id']!r}")
    return dict(reply)


def list_in(outcome: Outcome, request: dict[str, Any]) -> dict[str, Any]:
    """Return the reply that the caller got, which must be no error. Raises as ``reply_in``."""
    reply = reply_in(outcome, request)
    if reply.get("error"):
        raise Failed(f"the reply is the error {reply['error']}")
    return reply
