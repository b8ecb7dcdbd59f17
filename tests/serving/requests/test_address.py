"""Reply addresses: three conventions in one order; no reply to a topic outside the allow-list."""

from __future__ import annotations

import json

import pytest

from headrace.serving.requests.address import (
    allowed,
    check_allowed,
    format_reply,
    parse_reply_address,
    unwrap,
)
from headrace.streams.errors import RejectedError

BODY = b'{"request_id":"r1","items":[]}'
FAUST = [("Faust-Ag-ReplyTo", b"rec-replies-f"), ("Faust-Ag-CorrelationId", b"f-1")]
SPRING = [("kafka_replyTopic", b"rec-replies-s"), ("kafka_correlationId", b"\x00\x01\xff\xfe")]
PLAIN = [("reply_to", b"rec-replies-p"), ("correlation_id", b"p-1")]


def wrapped(**changes):
    envelope = {
        "value": {"request_id": "r1", "user_id": "u"},
        "reply_to": "rec-replies-b",
        "correlation_id": "b-1",
        "__faust": {"ns": "@ReqRepRequest"},
    }
    return json.dumps({**envelope, **changes}).encode()


@pytest.mark.parametrize(
    ("headers", "value", "topic"),
    [
        (FAUST + SPRING + PLAIN, wrapped(), "rec-replies-f"),
        (SPRING + PLAIN, wrapped(), "rec-replies-b"),
        (PLAIN + SPRING, BODY, "rec-replies-s"),
        (PLAIN, BODY, "rec-replies-p"),
        ([("reply_to", b"rec-replies-p")], BODY, "rec-replies-p"),
        ([("reply_to", b"rec-replies-old"), ("reply_to", b"rec-replies-new")], BODY, "rec-replies-new"),
    ],
)
def test_order_of_conventions(headers, value, topic):
    assert parse_reply_address(headers, value).topic == topic


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("correlation_id", b"x")],
        [("reply_to", b"")],
        [("reply_to", None)],
        [("reply_to", b"has space")],
        [("reply_to", b"../../etc")],
        [("reply_to", "ümlaut".encode())],
        [("reply_to", b"\xff\xfe")],
        [("reply_to", b"a" * 250)],
        [("reply_to", b"ok"), ("correlation_id", b"x" * 1025)],
        [("Faust-Ag-ReplyTo", b"rec-replies-f")],  # without an id the caller could not match the reply
    ],
)
def test_no_usable_address(headers):
    assert parse_reply_address(headers, BODY) is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b'"@ReqRepRequest"',
        b'{"__faust":{"ns":"@ReqRepRequest"}}',
        wrapped(reply_to=7),
        wrapped(__faust={"ns": "@Other"}),
        b'{"title":"\\"@ReqRepRequest\\"","x":"@ReqRepRequest"}',
        wrapped()[:-1],
    ],
)
def test_bodies_that_are_not_fausts_envelope(value):
    assert parse_reply_address([], value) is None
    assert unwrap(value) == value


def test_unwrap_returns_the_request_itself():
    assert json.loads(unwrap(wrapped())) == {"request_id": "r1", "user_id": "u"}


def test_plain_reply():
    address = parse_reply_address(PLAIN)
    assert format_reply(address, BODY) == (
        "rec-replies-p", None, b"p-1", BODY, [("correlation_id", b"p-1")],
    )  # fmt: skip


def test_spring_reply_keeps_the_raw_id_and_the_partition():
    address = parse_reply_address([*SPRING, ("kafka_replyPartition", b"\x00\x00\x00\x03")])
    topic, partition, key, value, headers = format_reply(address, BODY)
    assert (topic, partition, value) == ("rec-replies-s", 3, BODY)
    assert key == b"\x00\x01\xff\xfe"
    assert headers == [("kafka_correlationId", b"\x00\x01\xff\xfe")]


@pytest.mark.parametrize("raw", [b"3", b"", b"\xff\xff\xff\xff", b"\x00" * 5])
def test_spring_partition_that_is_none(raw):
    assert parse_reply_address([*SPRING, ("kafka_replyPartition", raw)]).partition is None


@pytest.mark.parametrize("source", ["headers", "body"])
def test_faust_reply_is_fausts_response_model(source):
    from faust.agents.models import ReqRepResponse

    address = parse_reply_address(FAUST) if source == "headers" else parse_reply_address([], wrapped())
    _, partition, key, value, headers = format_reply(address, BODY)
    response = ReqRepResponse.loads(value, serializer="json")
    assert response.correlation_id == ("f-1" if source == "headers" else "b-1")
    assert response.value == json.loads(BODY)
    assert partition is None
    assert key == response.correlation_id.encode()
    assert ("Faust-Ag-CorrelationId", key) in headers


def test_a_correlation_id_cannot_break_out_of_the_envelope():
    nasty = b'","value":"forged'
    address = parse_reply_address([("Faust-Ag-ReplyTo", b"rec-replies-f"), ("Faust-Ag-CorrelationId", nasty)])
    reply = json.loads(format_reply(address, BODY)[3])
    assert reply["value"] == json.loads(BODY)
    assert reply["correlation_id"] == nasty.decode()


def test_allow_list():
    patterns = ("rec-replies*", "partner.?")
    assert allowed("rec-replies", patterns)
    assert allowed("rec-replies-shop", patterns)
    assert allowed("partner.a", patterns)
    assert not allowed("events", patterns)
    assert not allowed("my-rec-replies", patterns)
    assert not allowed("REC-REPLIES", patterns)
    assert allowed("t1-rec-replies-x", patterns, "t1-")
    assert not allowed("rec-replies-x", patterns, "t1-"), "another installation's topics"
    address = parse_reply_address([("reply_to", b"events")])
    with pytest.raises(RejectedError) as caught:
        check_allowed(address, patterns)
    assert caught.value.reason == "reply_topic_not_allowed"
    assert caught.value.field == "reply_to"
