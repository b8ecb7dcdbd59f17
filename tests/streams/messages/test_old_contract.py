"""Requests and replies as version 0.1 wrote them are read today; those of today are read by old callers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import (
    AnyNone,
    ErrorInfo,
    Filters,
    ListRequest,
    ModelInfo,
    RecItem,
    RecList,
    RecReply,
    RecRequest,
    check_request,
)

#: Recorded: requests of version 0.1.
REQUESTS = [
    b'{"request_id":"r-1","user_id":"user-42","surface":"home"}',
    b'{"request_id":"r-2","user_id":"user-42","surface":"related","n":5,"item_id":"story-1","context":'
    b'{"country":"DE","device":"tv","ts":1790000000000},"exclude":["a","b"],"deadline_ms":99,"explain":true}',
    b'{"request_id":"r-3","user_id":"user-42","surface":"digest","n":null,"item_id":null,"exclude":null}',
    b'{"request_id":"r-4","user_id":"user-42","surface":"home","colour":"blue","context":{"mood":7}}',
]
#: Recorded: replies of version 0.1.
REPLIES = [
    b'{"request_id":"r-1","items":[{"item_id":"i","score":0.25,"objectives":{"click":0.25},"sources":["hot"],'
    b'"explored":false,"propensity":0.98,"why":["just published"]}],"model":{"ranker":"abc","online":"def",'
    b'"variant":""},"degraded":["user"],"took_ms":12.0}',
    b'{"request_id":"r-2","error":{"code":"invalid_field","message":"Expected `int` <= 500","field":"n"}}',
]


class OldReply(msgspec.Struct):
    """What a caller of version 0.1 reads."""

    request_id: str
    items: list[dict[str, Any]] = []
    model: dict[str, str] | None = None
    degraded: list[str] = []
    took_ms: float = 0.0
    error: dict[str, str] | None = None


@pytest.mark.parametrize("body", REQUESTS)
def test_an_old_request_asks_for_what_it_asked_for(body: bytes) -> None:
    request = Decoder(RecRequest, 65_536).value(body)
    check_request(request)
    new = (request.seen, request.filters, request.candidates, request.lists)
    assert new == ([], Filters(), [], [])
    said = {k: v for k, v in msgspec.json.decode(body).items() if v is not None and k != "colour"}
    found = msgspec.to_builtins(request)
    assert {k: found[k] for k in said if k != "context"} == {k: v for k, v in said.items() if k != "context"}


@pytest.mark.parametrize("body", REPLIES)
def test_an_old_reply_is_read(body: bytes) -> None:
    reply = msgspec.json.decode(body, type=RecReply)
    assert (reply.lists, reply.request_id[:2]) == ([], "r-")
    assert bool(reply.items) != bool(reply.error)


def test_an_old_caller_reads_a_reply_of_today() -> None:
    items = [RecItem("i", 0.25, {"click": 0.25}, ["hot"], False, 0.98)]
    old = msgspec.json.decode(msgspec.json.encode(RecReply("r", items, ModelInfo("abc"))), type=OldReply)
    assert old.items[0]["item_id"] == "i"
    page = RecReply("r", lists=[RecList("r/1", items)])
    assert msgspec.json.decode(msgspec.json.encode(page), type=OldReply) == OldReply("r")
    error = RecReply("r", error=ErrorInfo("empty", "the record has no value"))
    assert set(msgspec.json.decode(msgspec.json.encode(error))) == {"request_id", "error"}


def test_a_request_of_today_comes_back_as_it_was_sent() -> None:
    request = RecRequest(
        "r", "u", "home", seen=["a"], filters=Filters(tags=AnyNone(["x"], ["y"])),
        lists=[ListRequest("related", 3, "i"), ListRequest("home", filters=Filters(tags=AnyNone(["x"])))],
    )  # fmt: skip
    assert Decoder(RecRequest, 65_536).value(msgspec.json.encode(request)) == request
