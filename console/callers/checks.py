"""The checks by name, in their order. Each one is a coroutine that raises ``Failed`` or ``Advice``.

Some ask the workers of the installation. The others ask a topic that no worker reads: the check itself
answers there, late, twice, without a value, or in another order.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from headrace.console.callers.caller import Outcome
from headrace.console.callers.suite import SHORT_S, Advice, Failed, Suite, list_in, reply_in
from headrace.console.callers.wire import REPLY_PARTITIONS
from headrace.serving.requests.address import FAUST_ID, PLAIN_ID, SPRING_ID
from headrace.streams.topics.dead_letters import read_dead_letter
from headrace.streams.topics.partitioners import right_partition

#: Requests that wait at once.
MANY = 20


@dataclass(frozen=True, slots=True)
class Check:
    """A check: its name, one line that says what holds, whether it needs a ``serve`` worker, and how."""

    name: str
    text: str
    needs_serve: bool
    run: Callable[[Suite], Awaitable[None]]


async def _answered(suite: Suite, **fields: Any) -> tuple[Outcome, dict[str, Any]]:
    """Have the caller ask the mute topic, and answer at once."""
    request = suite.request(**fields)
    asking = asyncio.ensure_future(suite.ask(suite.wire.mute, request))
    try:
        await suite.wire.reply(await suite.asked(suite.wire.mute, request), suite.list_for(request))
        return await asking, request
    finally:
        asking.cancel()


async def first(suite: Suite) -> None:
    """Ask once, and answer as soon as the request is there."""
    outcome, request = await _answered(suite)
    list_in(outcome, request)


async def key(suite: Suite) -> None:
    """Look where the request of a user is."""
    _, request = await _answered(suite)
    record = await suite.asked(suite.wire.mute, request)
    user = str(request["user_id"]).encode()
    if record.key != user:
        raise Advice(f"the key of a request should be its user_id; it was {record.key!r}")
    wrong = 0
    partitions = suite.wire.partitions[suite.wire.mute]
    for _ in range(6):
        _, request = await _answered(suite)
        record = await suite.asked(suite.wire.mute, request)
        wrong += record.partition != right_partition(record.key or b"", partitions)
    if wrong:
        raise Advice(f"{wrong} of 6 requests are in another partition than murmur2 gives: docs/producer.md")


async def shuffled(suite: Suite) -> None:
    """Answer in the opposite order, on every partition of the reply topic."""
    requests = [suite.request() for _ in range(MANY)]
    asking = [asyncio.ensure_future(suite.ask(suite.wire.mute, request)) for request in requests]
    try:
        records = [await suite.asked(suite.wire.mute, request) for request in requests]
        for n in reversed(range(MANY)):
            await suite.wire.reply(records[n], suite.list_for(requests[n]), n % REPLY_PARTITIONS)
        for one, request in zip(asking, requests, strict=True):
            list_in(await one, request)
    finally:
        for one in asking:
            one.cancel()


async def strangers(suite: Suite) -> None:
    """Put records for others into the reply topic before the reply."""
    request = suite.request()
    asking = asyncio.ensure_future(suite.ask(suite.wire.mute, request))
    try:
        record = await suite.asked(suite.wire.mute, request)
        other = suite.list_for(suite.request())
        place = suite.wire.address(record).partition or 0
        names = (PLAIN_ID, SPRING_ID, FAUST_ID)
        await suite.wire.send(suite.wire.replies, other, partition=place)
        for name in names:
            identity = b"of-somebody-else"
            await suite.wire.send(suite.wire.replies, other, headers=[(name, identity)], partition=place)
        await suite.wire.send(suite.wire.replies, b"\xff{", key=b"x", partition=place)
        await suite.wire.send(suite.wire.replies, None, key=b"x", partition=place)
        await suite.wire.reply(record, suite.list_for(request), place)
        list_in(await asking, request)
    finally:
        asking.cancel()


async def new_fields(suite: Suite) -> None:
    """Answer with fields that do not exist yet."""
    request = suite.request()
    asking = asyncio.ensure_future(suite.ask(suite.wire.mute, request))
    try:
        body = suite.list_for(request, field_of_later={"a": [1, None]}, another=None)
        await suite.wire.reply(await suite.asked(suite.wire.mute, request), body)
        list_in(await asking, request)
    finally:
        asking.cancel()


async def null(suite: Suite) -> None:
    """Answer without a value; then as usual."""
    request = suite.request()
    asking = asyncio.ensure_future(suite.ask(suite.wire.mute, request))
    try:
        await suite.wire.reply(await suite.asked(suite.wire.mute, request), None)
        outcome = await asking
        if outcome.kind == "reply" and outcome.text not in ("", "null"):
            raise Failed(f"the reply had no value, and the caller has {outcome.text[:80]!r}")
    finally:
        asking.cancel()
    await _still_works(suite)


async def late(suite: Suite) -> None:
    """Answer only after the caller has given up; then ask again."""
    request = suite.request()
    outcome = await suite.ask(suite.wire.mute, request, SHORT_S)
    if outcome.kind != "timeout":
        raise Failed(f"there was no reply within {SHORT_S:g} s, and the caller says {outcome.kind}")
    await suite.wire.reply(await suite.asked(suite.wire.mute, request), suite.list_for(request))
    await _still_works(suite)


async def twice(suite: Suite) -> None:
    """Answer twice: a reply may be sent again after a crash."""
    request = suite.request()
    asking = asyncio.ensure_future(suite.ask(suite.wire.mute, request))
    try:
        record = await suite.asked(suite.wire.mute, request)
        for _ in range(2):
            await suite.wire.reply(record, suite.list_for(request), 0)
        list_in(await asking, request)
    finally:
        asking.cancel()
    await _still_works(suite)


async def _still_works(suite: Suite) -> None:
    outcome, request = await _answered(suite)
    try:
        list_in(outcome, request)
    except Failed as exc:
        raise Failed(f"the next request: {exc}") from exc


# --- asked of the workers ---


async def list_(suite: Suite) -> None:
    """Ask for three items."""
    request = suite.request()
    reply = list_in(await suite.ask(suite.wire.requests, request), request)
    items = reply.get("items", [])
    if len(items) > 3 or any("item_id" not in item for item in items):
        raise Failed(f"not a list of at most 3 items: {items}")
    if not items and "candidates" not in reply.get("degraded", []):
        raise Failed("an empty list, and degraded does not say why")


async def correlation(suite: Suite) -> None:
    """Compare request and reply as records."""
    request = suite.request()
    list_in(await suite.ask(suite.wire.requests, request), request)
    asked = suite.wire.address(await suite.asked(suite.wire.requests, request))
    text = json.dumps(request["request_id"]).encode()
    found = await suite.wire.wait(suite.wire.replies, lambda r: text in (r.value or b""), suite.timeout_s)
    if found is None:
        raise Failed(f"there is no reply in {suite.wire.replies}")
    wanted = [(asked.header, asked.correlation_id)] if asked.header else []
    if list(found.headers) != wanted or found.key != (asked.correlation_id or None):
        raise Failed(f"the reply has the key {found.key!r} and the headers {list(found.headers)}")
    if asked.partition is not None and found.partition != asked.partition:
        raise Failed(f"the reply is in partition {found.partition}; asked for: {asked.partition}")


async def unknown(suite: Suite) -> None:
    """Ask with fields that do not exist."""
    request = suite.request(field_of_later=[1], context={"country": "DE", "planet": "earth"})
    list_in(await suite.ask(suite.wire.requests, request), request)


async def refused(suite: Suite) -> None:
    """Ask for a list of no items, and without a surface."""
    short = suite.request(n=0)
    bare = {name: value for name, value in suite.request().items() if name != "surface"}
    for request, code, field in ((short, "invalid_field", "n"), (bare, "missing_field", "surface")):
        error = reply_in(await suite.ask(suite.wire.requests, request), request).get("error") or {}
        if (error.get("code"), error.get("field")) != (code, field):
            raise Failed(f"the error should be {code} in the field {field}: {error}")


async def several(suite: Suite) -> None:
    """Ask for many lists at once."""
    requests = [suite.request() for _ in range(MANY)]
    outcomes = await asyncio.gather(*(suite.ask(suite.wire.requests, request) for request in requests))
    for outcome, request in zip(outcomes, requests, strict=True):
        list_in(outcome, request)


async def allowed(suite: Suite) -> None:
    """Send the caller's request once more, with a reply topic that is not for replies."""
    request = suite.request()
    list_in(await suite.ask(suite.wire.requests, request), request)
    record = await suite.asked(suite.wire.requests, request)
    old, new = suite.wire.replies.encode(), suite.wire.mute.encode()
    headers = [(name, new if value == old else value) for name, value in record.headers]
    again = suite.request()
    ids = (str(request["request_id"]).encode(), str(again["request_id"]).encode())
    body = record.value.replace(old, new).replace(*ids)
    await suite.wire.send(suite.wire.requests, body, key=ids[1], headers=headers)

    def letter(found: Any) -> bool:
        return found.value == body and read_dead_letter(found).reason == "reply_topic_not_allowed"

    if await suite.wire.wait(suite.wire.dead_letters, letter, suite.timeout_s) is not None:
        return
    if suite.wire.has(suite.wire.mute, lambda r: ids[1] in (r.value or b"")):
        raise Advice(f"replies may go to any topic, {suite.wire.mute} too: set HEADRACE_REPLY_TOPICS")
    raise Failed(f"no dead letter reply_topic_not_allowed within {suite.timeout_s:g} s")


CHECKS = (
    Check("first", "the first request is answered: the caller listens before it asks", False, first),
    Check("key", "a request has its user_id as key, and is in that key's partition", False, key),
    Check("shuffled", "replies in any order, on any partition, reach their requests", False, shuffled),
    Check("strangers", "records for others in the reply topic are passed over", False, strangers),
    Check("new-fields", "fields of a reply that are not known are passed over", False, new_fields),
    Check("null", "a reply without a value stops nothing", False, null),
    Check("late", "a request without a reply ends at its timeout; a late reply harms no other", False, late),
    Check("twice", "a reply that comes twice harms no other request", False, twice),
    Check("list", "a request is answered with a list", True, list_),
    Check("correlation", "the correlation id comes back in its own header, and as key", True, correlation),
    Check("unknown", "fields of a request that are not known are ignored", True, unknown),
    Check("refused", "a bad request is answered with an error that names the field", True, refused),
    Check("several", f"{MANY} requests at once get {MANY} replies, each its own", True, several),
    Check("allowed", "a reply topic that is not allowed makes a dead letter", True, allowed),
)  # fmt: skip
