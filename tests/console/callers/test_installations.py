"""The checks that ask the workers: they pass with the real ones, and fail where a worker has a fault."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest
from answering import Answer, answering
from fresh_topics import make_topic
from installation import worker

from headrace.console.callers.headers import CONVENTIONS, HeaderCaller
from headrace.console.callers.run import all_results, chosen
from headrace.serving.requests.address import ReplyAddress, format_reply
from headrace.streams.settings import Settings

pytestmark = pytest.mark.broker

PLAIN, SPRING, FAUST, ENVELOPE = CONVENTIONS


async def test_the_workers_pass_with_every_convention(topics_made: Settings) -> None:
    async with worker(topics_made, ["serve"]):
        for convention in CONVENTIONS:
            caller = HeaderCaller(topics_made, convention)
            found = await all_results(topics_made, caller, chosen([]), timeout_s=20)
            assert len(found) == len(chosen([]))
            assert [(r.caller, r.check.name, r.detail) for r in found if r.verdict != "ok"] == []


class OtherKey(HeaderCaller):
    """Sends requests with a key that is not their user, or without one."""

    async def start(self, replies: str) -> None:
        await super().start(replies)
        producer: Any = self._producer
        send, keys = producer.send_and_wait, cycle([None, b"of-nobody"])
        producer.send_and_wait = lambda topic, value, key, headers: send(
            topic, value, key=next(keys), headers=headers
        )


async def test_a_request_with_another_key_or_none_is_answered(topics_made: Settings) -> None:
    async with worker(topics_made, ["serve"]):
        caller = OtherKey(topics_made, PLAIN)
        found = await all_results(topics_made, caller, chosen(["several", "correlation"]), timeout_s=20)
    assert [(r.check.name, r.verdict, r.detail) for r in found] == [
        ("correlation", "ok", ""),
        ("several", "ok", ""),
    ]


def body(request: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"request_id": request["request_id"], "degraded": ["candidates"], **more}).encode()


def with_body(make: Callable[[dict[str, Any]], bytes]) -> Answer:
    return lambda request, address: format_reply(address, make(request))


def good(request: dict[str, Any], address: ReplyAddress) -> Any:
    return format_reply(address, body(request))


def without_key(request: dict[str, Any], address: ReplyAddress) -> Any:
    topic, partition, _, value, headers = good(request, address)
    return topic, partition, None, value, headers


def with_a_header_more(request: dict[str, Any], address: ReplyAddress) -> Any:
    topic, partition, key, value, headers = good(request, address)
    return topic, partition, key, value, [*headers, ("x", b"y")]


def elsewhere(request: dict[str, Any], address: ReplyAddress) -> Any:
    topic, partition, key, value, headers = good(request, address)
    return topic, (partition or 0) + 1, key, value, headers


def knowing_all(request: dict[str, Any]) -> bytes:
    return body(request, **({"error": ERROR} if "field_of_later" in request else {}))


def only_to_replies(request: dict[str, Any], address: ReplyAddress) -> Any:
    return good(request, address) if "rec-replies" in address.topic else None


ERROR = {"code": "internal", "message": "m"}
FOUR = [{"item_id": str(n)} for n in range(4)]


@pytest.mark.parametrize(
    ("check", "convention", "answer", "told"),
    [
        ("list", PLAIN, lambda request, address: None, "no reply but timeout"),
        ("list", PLAIN, with_body(lambda request: body(request, error=ERROR)), "the reply is the error"),
        ("list", PLAIN, with_body(lambda request: body(request, items=FOUR)), "at most 3 items"),
        ("list", PLAIN, with_body(lambda request: body(request, degraded=[])), "degraded does not say why"),
        ("list", PLAIN, with_body(lambda request: b"text"), "is not the JSON"),
        ("correlation", PLAIN, without_key, "the key None"),
        ("correlation", PLAIN, with_a_header_more, r"\('x', b'y'\)"),
        ("correlation", SPRING, elsewhere, "is in partition 2; asked for: 1"),
        ("unknown", PLAIN, with_body(knowing_all), "the reply is the error"),
        ("refused", PLAIN, good, r"invalid_field in the field n: \{\}"),
        ("several", PLAIN, with_body(lambda request: body({"request_id": "one"})), "of request 'one'"),
        ("allowed", PLAIN, only_to_replies, "no dead letter"),
    ],
)  # fmt: skip
async def test_a_fault_of_a_worker_is_found(
    check: str, convention: Any, answer: Answer, told: str, settings: Settings
) -> None:
    for name in ("rec-requests", "dead-letters"):
        await make_topic(settings, settings.name(name), 2)
    caller = HeaderCaller(settings, convention)
    waits = told in ("no reply but timeout", "no dead letter")
    async with answering(settings, answer):
        (found,) = await all_results(settings, caller, chosen([check]), timeout_s=5 if waits else 20)
    assert found.verdict == "failed"
    assert re.search(told, found.detail), found.detail


async def test_replies_to_any_topic_are_worth_advice(settings: Settings) -> None:
    for name in ("rec-requests", "dead-letters"):
        await make_topic(settings, settings.name(name), 2)
    async with answering(settings, good):
        (found,) = await all_results(
            settings, HeaderCaller(settings, PLAIN), chosen(["allowed"]), timeout_s=5
        )
    assert found.verdict == "advice"
    assert "set HEADRACE_REPLY_TOPICS" in found.detail
